// Keeps a page fresh: asks the server for it again and swaps in the parts marked data-live.
const EVERY_MS = 5000;

/** Counts the questions, so that an answer that was overtaken is thrown away. */
let asked = 0;

/** Fetches the page at `href` and replaces each part that differs. Returns whether it could be had. */
export async function refresh(href: string): Promise<boolean> {
  const turn = ++asked;
  const answer = await fetch(href, { headers: { accept: "text/html" } });
  if (!answer.ok) return false;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (turn !== asked) return true;
  if (partsOf(fresh) !== partsOf(document)) {
    // The page is of another make now: the first edge came, or the last alert went.
    if (!document.activeElement?.matches("input, textarea, select")) location.reload();
    return true;
  }
  for (const part of document.querySelectorAll<HTMLElement>("[data-live]")) {
    const next = fresh.querySelector(`[data-live="${part.dataset.live}"]`);
    if (!next || next.outerHTML === part.outerHTML || isBusy(part)) continue;
    keepOpen(part, next);
    keepFocus(part, () => {
      // Only the content is replaced: pan and zoom, and what listens on the part, stay.
      for (const { name, value } of next.attributes) part.setAttribute(name, value);
      part.replaceChildren(...document.importNode(next, true).childNodes);
    });
  }
  document.dispatchEvent(new CustomEvent("refreshed"));
  return true;
}

function partsOf(page: Document): string {
  return [...page.querySelectorAll<HTMLElement>("[data-live]")].map((part) => part.dataset.live).join(" ");
}

/** Someone is typing in it, or has marked text in it. */
function isBusy(part: Element): boolean {
  const active = document.activeElement;
  if (active && part.contains(active) && active.matches("input, textarea, select")) return true;
  const selection = getSelection();
  return !!selection && !selection.isCollapsed && !!selection.anchorNode && part.contains(selection.anchorNode);
}

/** What is unfolded stays so. Parts are told apart by their summary and how many of the same came before. */
function keepOpen(old: Element, next: Element): void {
  const keyed = (root: Element): Map<string, HTMLDetailsElement> => {
    const all = new Map<string, HTMLDetailsElement>();
    for (const details of root.querySelectorAll("details")) {
      const name = details.dataset.key ?? details.querySelector("summary")?.textContent ?? "";
      let n = 0;
      while (all.has(`${name} ${n}`)) n += 1;
      all.set(`${name} ${n}`, details);
    }
    return all;
  };
  const before = keyed(old);
  for (const [key, details] of keyed(next)) if (before.get(key)?.open) details.open = true;
}

/** A focused link or summary keeps the focus when its like is still there. */
function keepFocus(part: Element, swap: () => void): void {
  const active = document.activeElement;
  const inside = active && active !== part && part.contains(active);
  const like = "a, summary, button";
  const at = inside ? [...part.querySelectorAll(like)].indexOf(active) : -1;
  const id = active?.getAttribute("data-id") ?? active?.getAttribute("href");
  swap();
  if (at < 0) return;
  const all = [...part.querySelectorAll<HTMLElement>(like)];
  const same = id ? all.find((one) => (one.dataset.id ?? one.getAttribute("href")) === id) : all[at];
  same?.focus({ preventScroll: true });
}

export function startLive(): void {
  if (!document.querySelector("[data-live]")) return;
  let asking = false;
  const tick = async (): Promise<void> => {
    if (document.hidden || asking) return;
    asking = true;
    try {
      document.body.classList.toggle("stale", !(await refresh(location.href)));
    } catch {
      document.body.classList.add("stale"); // The server is away; the next tick asks again.
    } finally {
      asking = false;
    }
  };
  setInterval(tick, EVERY_MS);
  document.addEventListener("visibilitychange", tick);
}
