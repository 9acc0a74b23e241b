// Keeps a page fresh: the server says when to look, the page is fetched again, and the parts marked data-live are swapped in.
import { patchDrawing } from "./patch";

const EVERY_MS = 5000;
/** Without a word from the server for so long, the page asks by itself. */
const SILENCE_MS = 12_000;
const RECONNECT_MS = 3000;
/** A page rests so many times as long as it took to have it. */
const RESTS = 5;

/** Counts the questions, so that an answer that was overtaken is thrown away. */
let asked = 0;
/** While a film plays, or a drag is under way, the page must not change under it. */
let held = false;

/** Keeps the page as it is, or lets it be fresh again. An answer that is on its way when it begins is thrown away. */
export function hold(on: boolean): void {
  if (on) asked += 1;
  held = on;
}

/** Fetches the page at `href` and replaces each part that differs. Returns whether it could be had. */
export async function refresh(href: string): Promise<boolean> {
  const turn = ++asked;
  // The server leaves what stays of the drawing that is seen where it is.
  const drawing = document.querySelector<HTMLElement>("[data-drawing]")?.dataset.drawing;
  const headers = { accept: "text/html", ...(drawing ? { "meshscope-drawing": drawing } : {}) };
  const answer = await fetch(href, { headers });
  // What the server cannot do now, it may soon; what it says of the address is a page like any other.
  if (answer.status >= 500) return false;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (turn !== asked) return true;
  if (makeOf(fresh) !== makeOf(document)) {
    // The page is of another make now: the first edge came, the last alert went, or the server is a newer one.
    if (!document.activeElement?.matches("input, textarea, select")) location.reload();
    return true;
  }
  for (const part of document.querySelectorAll<HTMLElement>("[data-live]")) {
    const next = fresh.querySelector(`[data-live="${part.dataset.live}"]`);
    if (!next || isBusy(part)) continue;
    if (patchDrawing(part, next)) {
      served.delete(part);
      continue;
    }
    const text = next.outerHTML;
    // What scripts add to a part (times in the reader's zone, say) makes it differ from what was served.
    if (served.get(part) === text) continue;
    served.set(part, text);
    keepOpen(part, next);
    keepFocus(part, () => {
      // Only the content is replaced: pan and zoom, and what listens on the part, stay.
      for (const { name, value } of next.attributes) part.setAttribute(name, value);
      part.toggleAttribute("hidden", next.hasAttribute("hidden"));
      part.replaceChildren(...document.importNode(next, true).childNodes);
    });
  }
  document.dispatchEvent(new CustomEvent("refreshed"));
  return true;
}

/** Each part as the server last gave it. */
const served = new WeakMap<Element, string>();

/** A script has written into a part: it is not what the server gave any more, so the next answer is put in its place. */
export function written(part: Element | null): void {
  if (part) served.delete(part);
}

/** The parts of a page and the scripts it was made for. */
function makeOf(page: Document): string {
  const parts = [...page.querySelectorAll<HTMLElement>("[data-live]")].map((part) => part.dataset.live);
  const scripts = [...page.querySelectorAll("head script[src]")].map((script) => script.getAttribute("src"));
  return [...parts, ...scripts].join(" ");
}

/** Someone is typing in it, drags over it, or has marked text in it. */
function isBusy(part: Element): boolean {
  const active = document.activeElement;
  if (active && part.contains(active) && active.matches("input, textarea, select")) return true;
  // A drag over a chart of it is under way.
  if (part.querySelector(".band")) return true;
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

/** Listens to the server while the page is seen; calls `beat` when there may be news. */
class Beats {
  private source: EventSource | undefined;
  private timer: number | undefined;
  private heard = 0;

  constructor(private readonly beat: () => void) {
    document.addEventListener("visibilitychange", () => this.follow());
    setInterval(() => this.watch(), EVERY_MS);
    this.follow();
  }

  /** A page that is hidden listens to nothing, and asks at once when it is seen again. */
  private follow(): void {
    if (document.hidden) return this.close();
    if (this.source) return;
    this.open();
    if (this.heard > 0) this.beat();
  }

  private open(): void {
    const source = new EventSource("/live");
    this.source = source;
    const hear = (): void => {
      this.heard = Date.now();
    };
    source.addEventListener("hello", () => {
      const again = this.heard > 0;
      hear();
      if (again) this.beat(); // the server was away, or the page was hidden
    });
    source.addEventListener("beat", () => {
      hear();
      this.beat();
    });
    source.addEventListener("error", () => {
      // A browser connects again by itself unless the answer was no stream.
      if (source.readyState !== EventSource.CLOSED || this.source !== source) return;
      this.close();
      this.timer = window.setTimeout(() => this.follow(), RECONNECT_MS);
    });
  }

  private close(): void {
    this.source?.close();
    this.source = undefined;
    if (this.timer !== undefined) clearTimeout(this.timer);
    this.timer = undefined;
  }

  /** The stream is silent: refused, away, or held up by a proxy. The page asks by itself. */
  private watch(): void {
    if (!document.hidden && Date.now() - this.heard > SILENCE_MS) this.beat();
  }
}

export function startLive(): void {
  // A page that only says what is wrong with its address says the same tomorrow.
  if (!document.querySelector("[data-live]") || document.querySelector("[data-still]")) return;
  // A large drawing comes as data the next time, which is compared piece by piece.
  for (const part of document.querySelectorAll("[data-live]:not([data-large])")) served.set(part, part.outerHTML);
  let asking = false;
  let notBefore = 0;
  new Beats(() => {
    const began = performance.now();
    if (document.hidden || asking || held || began < notBefore) return;
    asking = true;
    refresh(location.href)
      .then((reached) => document.body.classList.toggle("stale", !reached))
      .catch(() => document.body.classList.add("stale")) // The server is away; the next beat asks again.
      .finally(() => {
        asking = false;
        // A page that is long in the making is made less often.
        notBefore = began + (performance.now() - began) * RESTS;
      });
  });
}
