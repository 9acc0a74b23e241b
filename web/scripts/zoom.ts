// A drag over a chart makes its time the time of the page, in the address, so that it can be shared and taken back.

import { hold } from "./live";

/** A drag of fewer pixels is a click that trembles. */
const DRAG_PIXELS = 6;

/** Shows the time between two moments, in seconds; on the page of the chart, or on `page` where that one has no range. */
export function zoomTo(from: number, to: number, page?: string): void {
  const [start, end] = [Math.floor(Math.min(from, to)), Math.ceil(Math.max(from, to))];
  const newest = Date.now() / 1000;
  if (!(end > start) || start >= newest) return;
  const url = new URL(page ?? location.href, location.href);
  for (const name of ["start", "end"]) url.searchParams.delete(name);
  const last = Math.min(end, newest);
  url.searchParams.set("range", `${Math.max(1, Math.round(last - start))}s`);
  url.searchParams.set("at", new Date(last * 1000).toISOString());
  location.assign(url);
}

/** The click that ends a drag follows no link. */
function swallowClick(): void {
  const swallow = (event: Event): void => {
    event.preventDefault();
    event.stopPropagation();
  };
  addEventListener("click", swallow, { capture: true, once: true });
  setTimeout(() => removeEventListener("click", swallow, { capture: true }), 0);
}

/** Drags over drawings of the server that say what time they show. */
export function startZoom(): void {
  // A drag may begin on the mark of a change, which is a link: the browser would carry the link away.
  document.addEventListener("dragstart", (event) => {
    if ((event.target as Element).closest?.("svg[data-span], [data-chart]")) event.preventDefault();
  });
  document.addEventListener("pointerdown", (event) => {
    const svg = (event.target as Element).closest<SVGSVGElement>("svg[data-span]");
    // A page without a range has no time to be changed: the drawing says which page has.
    const page = svg?.dataset.zoom;
    if (!svg || event.button !== 0 || event.pointerType === "touch") return;
    if (page === undefined && !document.querySelector("[data-picker]")) return;
    const read = (text = ""): number => (text === "now" ? Date.now() : Date.parse(text)) / 1000;
    const [from, to] = [svg.dataset.from, svg.dataset.to].map((text) => read(text));
    if (from === undefined || to === undefined || !(to > from)) return;
    const box = svg.getBoundingClientRect();
    const share = (x: number): number => Math.min(Math.max((x - box.left) / box.width, 0), 1);
    const begin = event.clientX;
    const band = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    band.setAttribute("class", "band");
    const drawn = svg.viewBox.baseVal;
    const { width, height } = drawn && drawn.width > 0 ? drawn : box;
    let dragged = false;
    const move = (moved: PointerEvent): void => {
      if (Math.abs(moved.clientX - begin) < DRAG_PIXELS) return;
      dragged = true;
      if (!band.isConnected) svg.append(band);
      const [a, b] = [share(begin), share(moved.clientX)];
      band.setAttribute("x", String(Math.min(a, b) * width));
      band.setAttribute("width", String(Math.abs(b - a) * width));
      band.setAttribute("height", String(height));
    };
    const end = (ended: PointerEvent): void => {
      removeEventListener("pointermove", move);
      removeEventListener("pointerup", end);
      removeEventListener("pointercancel", end);
      band.remove();
      hold(false);
      if (!dragged || ended.type !== "pointerup") return;
      swallowClick();
      zoomTo(from + share(begin) * (to - from), from + share(ended.clientX) * (to - from), page);
    };
    // What is under the pointer must not be drawn anew meanwhile.
    hold(true);
    addEventListener("pointermove", move);
    addEventListener("pointerup", end);
    addEventListener("pointercancel", end);
    event.preventDefault();
  });
}
