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
