// Offers ways on while an expression of Find or Hide is typed. The server knows the language and the names.

const PAUSE_MS = 150;

interface Answer {
  data?: { completions: { text: string; detail: string; from: number }[]; error?: { position: number; message: string } };
}

export function startExpressions(): void {
  for (const input of document.querySelectorAll<HTMLInputElement>("[data-complete]")) {
    const list = input.list;
    if (!list) continue;
    let timer: number | undefined;
    let asked = 0;
    const offer = async (): Promise<void> => {
      const turn = ++asked;
      const cursor = input.selectionStart ?? input.value.length;
      // The server counts characters, not the halves of pairs.
      const query = new URLSearchParams({ expression: input.value, cursor: String([...input.value.slice(0, cursor)].length) });
      const view = new URL(location.href).searchParams.get("view");
      if (view) query.set("view", view);
      const reply = await fetch(`/api/mesh/v1/graph/complete?${query}`);
      const { data } = (await reply.json()) as Answer;
      if (turn !== asked || !data) return;
      const before = [...input.value];
      const options = data.completions.map(({ text, detail, from }) => {
        const option = document.createElement("option");
        option.value = before.slice(0, from).join("") + text;
        option.label = `${text}: ${detail}`;
        return option;
      });
      list.replaceChildren(...options);
    };
    const later = (): void => {
      if (timer !== undefined) clearTimeout(timer);
      timer = window.setTimeout(() => void offer().catch(() => undefined), PAUSE_MS);
    };
    input.addEventListener("input", later);
    input.addEventListener("focus", later);
  }
}

/** What of the drawing's look comes from the page's styles. */
const LOOK = ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "font"];

/** Saves the drawing as it is seen: the styles of the page are written into it. */
export function startSaving(): void {
  const button = document.querySelector<HTMLButtonElement>("[data-save-svg]");
  const svg = document.querySelector<SVGSVGElement>("[data-canvas] .scroll > svg");
  if (!button || !svg) return;
  button.hidden = false;
  button.addEventListener("click", () => {
    const copy = svg.cloneNode(true) as SVGSVGElement;
    const from = [svg, ...svg.querySelectorAll<SVGElement>("*")];
    const to = [copy, ...copy.querySelectorAll<SVGElement>("*")];
    from.forEach((element, at) => {
      const style = getComputedStyle(element);
      for (const name of LOOK) to[at]?.setAttribute(name, style.getPropertyValue(name));
      to[at]?.removeAttribute("href");
    });
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    const file = new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(file);
    link.download = "service-graph.svg";
    link.click();
    URL.revokeObjectURL(link.href);
  });
}
