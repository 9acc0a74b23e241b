// A drag over a chart makes its time the time of the page, in the address, so that it can be shared and taken back.

/** A drag of fewer pixels is a click that trembles. */
const DRAG_PIXELS = 6;

/** Shows the time between two moments, in seconds; on the page of the chart, or of its query where that page has no range. */
export function zoomTo(from: number, to: number, query?: string): void {
  const [start, end] = [Math.floor(Math.min(from, to)), Math.ceil(Math.max(from, to))];
  const newest = Date.now() / 1000;
  if (!(end > start) || start >= newest) return;
  const url = new URL(query === undefined ? location.href : "/explore", location.href);
  if (query !== undefined) url.searchParams.set("query", query);
  for (const name of ["start", "end"]) url.searchParams.delete(name);
  const last = Math.min(end, newest);
  url.searchParams.set("range", `${Math.max(1, Math.round(last - start))}s`);
  url.searchParams.set("at", new Date(last * 1000).toISOString());
  location.assign(url);
}

/** Drags over drawings of the server that say what time they show. */
export function startZoom(): void {
  document.addEventListener("pointerdown", (event) => {
    const svg = (event.target as Element).closest<SVGSVGElement>("svg[data-span]");
    // A page without a range has no time to be changed.
    if (!svg || event.button !== 0 || event.pointerType === "touch" || !document.querySelector("[data-picker]")) return;
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
    const move = (moved: PointerEvent): void => {
      if (Math.abs(moved.clientX - begin) < DRAG_PIXELS) return;
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
      const dragged = band.isConnected && ended.type === "pointerup";
      band.remove();
      if (dragged) zoomTo(from + share(begin) * (to - from), from + share(ended.clientX) * (to - from));
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", end);
    addEventListener("pointercancel", end);
    event.preventDefault();
  });
}
