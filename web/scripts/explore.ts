// The query editors: Ctrl+Enter runs; metrics, functions, labels and values complete at the cursor; a link is copied.
import { DURATIONS, KEYWORDS, type Place, placeAt } from "./promql";

const SHOWN = 12;
const LETTERS_MIN = 2;
const ANSWER_MAX = 2000;

interface Offer {
  text: string;
  kind: string;
}

/** Lists of names, each asked for once. */
const asked = new Map<string, Promise<string[]>>();

function names(path: string, metric: string): Promise<string[]> {
  const query = new URLSearchParams({ limit: String(ANSWER_MAX) });
  if (metric) query.set("match[]", metric);
  const address = `${path}?${query}`;
  const known = asked.get(address);
  if (known) return known;
  const reply = fetch(address)
    .then((answer) => answer.json() as Promise<{ data?: string[] }>)
    .then(({ data }) => data ?? [])
    .catch(() => {
      asked.delete(address); // the next letter asks again
      return [];
    });
  asked.set(address, reply);
  return reply;
}

async function offers({ kind, metric, label }: Place, functions: string[]): Promise<Offer[]> {
  const of = (texts: string[], kind: string): Offer[] => texts.map((text) => ({ text, kind }));
  switch (kind) {
    case "label":
      return of(await names("/api/v1/labels", metric), "label").filter(({ text }) => text !== "__name__");
    case "value":
      return of(await names(`/api/v1/label/${encodeURIComponent(label)}/values`, metric), "value");
    case "duration":
      return of(DURATIONS, "duration");
    case "expression":
      return [
        ...of(await names("/api/v1/label/__name__/values", ""), "metric"),
        ...of(functions, "function"),
        ...of(KEYWORDS, "keyword"),
      ];
    default:
      return [];
  }
}

/** The list of names under an editor. */
class Completion {
  readonly list = document.createElement("div");
  private chosen = 0;
  private turn = 0;

  constructor(
    private readonly area: HTMLTextAreaElement,
    private readonly functions: string[],
  ) {
    this.list.className = "completion card";
    this.list.id = `completion-${area.id}`;
    this.list.hidden = true;
    this.list.setAttribute("role", "listbox");
    this.list.setAttribute("aria-label", "Names");
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
  take(option = this.list.children[this.chosen] as HTMLElement | undefined): void {
    if (!option) return;
    const { word } = this.place();
    const { text = "", kind = "" } = option.dataset;
    const end = this.area.selectionStart;
    const follows = this.area.value.slice(end);
    const more = kind === "function" && !follows.startsWith("(") ? "(" : kind === "label" && this.inBraces() && !/^\s*[=!]/.test(follows) ? '="' : "";
    this.area.setRangeText(text + more, end - word.length, end, "end");
    this.close();
    this.area.focus();
    if (more === '="') void this.suggest().catch(() => this.close());
  }

  private inBraces(): boolean {
    const before = this.area.value.slice(0, this.area.selectionStart);
    return before.lastIndexOf("{") > before.lastIndexOf("}") && before.lastIndexOf("{") > before.lastIndexOf("(");
  }

  private place(): Place {
    return placeAt(this.area.value.slice(0, this.area.selectionStart));
  }

  private async suggest(): Promise<void> {
    const turn = ++this.turn;
    const place = this.place();
    if (place.kind === "nothing" || (place.kind === "expression" && place.word.length < LETTERS_MIN)) return this.close();
    const all = await offers(place, this.functions);
    if (turn !== this.turn) return;
    const wanted = place.word.toLowerCase();
    const found = all.filter(({ text }) => text.toLowerCase().includes(wanted) && text !== place.word);
    // Names that begin with what is typed come first.
    found.sort((a, b) => Number(b.text.startsWith(place.word)) - Number(a.text.startsWith(place.word)));
    this.list.replaceChildren(...found.slice(0, SHOWN).map((offer, i) => this.option(offer, i)));
    if (found.length === 0) return this.close();
    this.list.hidden = false;
    this.chosen = 0;
    this.choose(0);
  }

  private option({ text, kind }: Offer, at: number): HTMLElement {
    const option = document.createElement("div");
    option.id = `${this.list.id}-${at}`;
    option.setAttribute("role", "option");
    option.setAttribute("aria-label", text);
    option.dataset.text = text;
    option.dataset.kind = kind;
    option.textContent = text;
    // Before the editor loses the focus, which closes the list.
    option.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      this.take(option);
    });
    return option;
  }
}

function complete(form: HTMLFormElement, area: HTMLTextAreaElement, functions: string[]): void {
  const completion = new Completion(area, functions);
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

export function startExplore(): void {
  const form = document.querySelector<HTMLFormElement>("[data-explore]");
  if (!form) return;
  const listed = form.querySelector<HTMLTemplateElement>("[data-functions]")?.content.textContent ?? "";
  const functions = listed.split(/\s+/).filter((name) => name !== "");
  form.querySelectorAll("textarea").forEach((area) => complete(form, area, functions));
  // Fields without a text only make the address longer.
  form.addEventListener("submit", () => {
    form.querySelectorAll("textarea").forEach((area) => (area.disabled = area.value.trim() === "" && area.id !== "query"));
  });
  const share = form.querySelector<HTMLAnchorElement>("[data-share]");
  share?.addEventListener("click", (event) => {
    if (!navigator.clipboard) return; // Over plain HTTP to another host there is none: the link leads there.
    event.preventDefault();
    navigator.clipboard.writeText(share.href).then(
      () => (share.textContent = "Copied"),
      () => location.assign(share.href),
    );
  });
}
