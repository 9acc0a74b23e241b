// Keeps a page fresh: asks the server for it again and swaps in the parts marked data-live.
const EVERY_MS = 5000;

/** Fetches the page at `href` and replaces each part that differs. Returns whether it was reached. */
export async function refresh(href: string): Promise<boolean> {
  const answer = await fetch(href, { headers: { accept: "text/html" } });
  if (!answer.ok) return false;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of document.querySelectorAll<HTMLElement>("[data-live]")) {
    const next = fresh.querySelector(`[data-live="${part.dataset.live}"]`);
    if (!next || isBusy(part) || next.innerHTML === part.innerHTML) continue;
    keepOpen(part, next);
    // The drawing is replaced inside its frame, so that pan and zoom stay.
    part.replaceChildren(...document.importNode(next, true).childNodes);
  }
  const nav = fresh.querySelector(".nav");
  if (nav) document.querySelector(".nav")?.replaceChildren(...document.importNode(nav, true).childNodes);
  document.dispatchEvent(new CustomEvent("refreshed"));
  return true;
}

/** Someone is reading or typing in it. */
function isBusy(part: Element): boolean {
  const active = document.activeElement;
  if (active && part.contains(active) && active.matches("input, textarea, select")) return true;
  const selection = getSelection();
  return !!selection && !selection.isCollapsed && !!selection.anchorNode && part.contains(selection.anchorNode);
}

function keepOpen(old: Element, next: Element): void {
  const opened = [...old.querySelectorAll("details")].map((details) => details.open);
  next.querySelectorAll("details").forEach((details, i) => {
    if (opened[i]) details.open = true;
  });
}

export function startLive(): void {
  if (!document.querySelector("[data-live]")) return;
  let asking = false;
  const tick = async (): Promise<void> => {
    if (document.hidden || asking) return;
    asking = true;
    try {
      await refresh(location.href);
    } catch {
      // The server is away; the next tick asks again.
    } finally {
      asking = false;
    }
  };
  setInterval(tick, EVERY_MS);
  document.addEventListener("visibilitychange", tick);
}
