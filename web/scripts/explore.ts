// The query editor: Ctrl+Enter runs, and metric names complete at the cursor.
const SHOWN = 12;
const LETTERS_MIN = 2;

/** The list of names under the editor. */
class Completion {
  readonly list = document.createElement("div");
  private names: Promise<string[]> | undefined;
  private chosen = 0;

  constructor(private readonly area: HTMLTextAreaElement) {
    this.list.className = "completion card";
    this.list.id = "completion";
    this.list.hidden = true;
    this.list.setAttribute("role", "listbox");
    this.list.setAttribute("aria-label", "Metrics");
    area.setAttribute("aria-controls", this.list.id);
    area.setAttribute("aria-autocomplete", "list");
    area.after(this.list);
    area.addEventListener("input", () => void this.suggest().catch(() => this.close()));
    area.addEventListener("blur", () => this.close());
  }

  get open(): boolean {
    return !this.list.hidden;
  }

  close(): void {
    this.list.hidden = true;
    this.area.removeAttribute("aria-activedescendant");
  }

  choose(step: number): void {
    const options = [...this.list.children];
    this.chosen = (this.chosen + step + options.length) % options.length;
    options.forEach((option, i) => option.setAttribute("aria-selected", String(i === this.chosen)));
    this.area.setAttribute("aria-activedescendant", options[this.chosen]?.id ?? "");
  }

  /** Puts the chosen name in place of the word at the cursor. */
  take(name = this.list.children[this.chosen]?.textContent ?? ""): void {
    const { from } = this.word();
    this.area.setRangeText(name, from, this.area.selectionStart, "end");
    this.close();
    this.area.focus();
  }

  private word(): { from: number; text: string } {
    const before = this.area.value.slice(0, this.area.selectionStart);
    const text = /[a-zA-Z_:][\w:]*$/.exec(before)?.[0] ?? "";
    return { from: before.length - text.length, text };
  }

  private async suggest(): Promise<void> {
    if (this.word().text.length < LETTERS_MIN) return this.close();
    this.names ??= metricNames();
    const names = await this.names.catch((reason: unknown) => {
      this.names = undefined; // the next letter asks again
      throw reason;
    });
    const { text } = this.word();
    const found = names.filter((name) => name.includes(text) && name !== text);
    // Names that begin with what is typed come first.
    found.sort((a, b) => Number(b.startsWith(text)) - Number(a.startsWith(text)));
    this.list.replaceChildren(...found.slice(0, SHOWN).map((name, i) => this.option(name, i)));
    if (found.length === 0) return this.close();
    this.list.hidden = false;
    this.chosen = 0;
    this.choose(0);
  }

  private option(name: string, at: number): HTMLElement {
    const option = document.createElement("div");
    option.id = `completion-${at}`;
    option.setAttribute("role", "option");
    option.textContent = name;
    // Before the editor loses the focus, which closes the list.
    option.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      this.take(name);
    });
    return option;
  }
}

async function metricNames(): Promise<string[]> {
  const answer = await fetch("/api/v1/label/__name__/values");
  const body = (await answer.json()) as { data?: string[] };
  return body.data ?? [];
}

export function startExplore(): void {
  const form = document.querySelector<HTMLFormElement>("[data-explore]");
  const area = form?.querySelector("textarea");
  if (!form || !area) return;
  const completion = new Completion(area);
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      form.requestSubmit();
      return;
    }
    if (!completion.open) return;
    const keys: Record<string, () => void> = {
      ArrowDown: () => completion.choose(1),
      ArrowUp: () => completion.choose(-1),
      Tab: () => completion.take(),
      Enter: () => completion.take(),
      Escape: () => completion.close(),
    };
    const act = keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
}
