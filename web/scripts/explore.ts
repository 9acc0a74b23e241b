// The query editor: Ctrl+Enter runs, and metric names complete at the cursor.
const SHOWN = 12;

export function startExplore(): void {
  const form = document.querySelector<HTMLFormElement>("[data-explore]");
  const area = form?.querySelector("textarea");
  if (!form || !area) return;
  const list = document.createElement("div");
  list.className = "completion card hidden";
  list.setAttribute("role", "listbox");
  area.after(list);
  let names: string[] | undefined;

  const word = (): { from: number; text: string } => {
    const before = area.value.slice(0, area.selectionStart);
    const text = /[a-zA-Z_:][\w:]*$/.exec(before)?.[0] ?? "";
    return { from: before.length - text.length, text };
  };
  const take = (name: string): void => {
    const { from } = word();
    area.setRangeText(name, from, area.selectionStart, "end");
    list.classList.add("hidden");
    area.focus();
  };
  const suggest = async (): Promise<void> => {
    const { text } = word();
    names ??= (await (await fetch("/api/v1/label/__name__/values")).json()).data as string[];
    const found = text.length < 2 ? [] : names.filter((name) => name.includes(text) && name !== text).slice(0, SHOWN);
    list.classList.toggle("hidden", found.length === 0);
    list.replaceChildren(
      ...found.map((name) => {
        const item = document.createElement("button");
        item.type = "button";
        item.setAttribute("role", "option");
        item.textContent = name;
        item.addEventListener("click", () => take(name));
        return item;
      }),
    );
  };

  area.addEventListener("input", () => void suggest().catch(() => undefined));
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    if (event.key === "Escape") list.classList.add("hidden");
    if (event.key === "Tab" && !list.classList.contains("hidden")) {
      event.preventDefault();
      list.querySelector("button")?.click();
    }
  });
}
