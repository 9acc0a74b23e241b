// The service graph: pan, zoom, find, and selection without leaving the page. The server draws it.
import { refresh } from "./live";

interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** Below this many screen pixels for one of the drawing, the numbers on edges are noise. */
const LEGIBLE_SCALE = 0.5;
/** Below this many no word and no arrow head of the drawing is more than a smear. */
const WORDS_SCALE = 0.2;
/** A pointer that moves less than this is a click that trembles. */
const CLICK_PIXELS = 4;

/** What of the drawing is seen. It stays as the user left it while the drawing changes. */
class View {
  private whole: Box;
  private box: Box;
  /** Whether the user has moved; a view that was never moved shows all of a drawing that grows. */
  private moved = false;
  /** Pixels of the screen it has. Nothing is asked of the browser that would make it lay out the page at once. */
  private room = { width: 0, height: 0 };

  constructor(readonly svg: SVGSVGElement) {
    const { x, y, width, height } = svg.viewBox.baseVal;
    this.whole = { x, y, width, height };
    this.box = { ...this.whole };
    new ResizeObserver(([entry]) => {
      if (!entry) return;
      this.room = entry.contentRect;
      this.rescaled();
    }).observe(svg);
  }

  zoom(factor: number, at = { x: this.box.x + this.box.width / 2, y: this.box.y + this.box.height / 2 }): void {
    const { x, y, width, height } = this.box;
    const wide = Math.min(Math.max(width * factor, this.whole.width / 20), this.whole.width * 3);
    const scale = wide / width;
    this.moved = true;
    this.show({ x: at.x - (at.x - x) * scale, y: at.y - (at.y - y) * scale, width: wide, height: height * scale });
  }

  move(dx: number, dy: number): void {
    this.moved = true;
    this.show({ ...this.box, x: this.box.x + dx, y: this.box.y + dy });
  }

  fit(): void {
    this.moved = false;
    this.show({ ...this.whole });
  }

  /** The server drew anew: takes the size of the new drawing. */
  redrawn(): void {
    const drawn = this.svg.querySelector<SVGGElement>("[data-box]")?.dataset.box?.split(" ").map(Number);
    const [x, y, width, height] = drawn ?? [];
    if (x === undefined || y === undefined || !width || !height) return;
    const same = this.whole.x === x && this.whole.y === y && this.whole.width === width && this.whole.height === height;
    if (same) return;
    this.whole = { x, y, width, height };
    this.svg.setAttribute("width", String(width));
    this.svg.setAttribute("height", String(height));
    if (!this.moved) this.fit();
  }

  /** Hides the numbers on edges, and then all words, when they are too small to read. */
  private rescaled(): void {
    if (this.room.width === 0 || this.room.height === 0) return;
    const scale = Math.min(this.room.width / this.box.width, this.room.height / this.box.height);
    this.svg.classList.toggle("distant", scale < LEGIBLE_SCALE);
    this.svg.classList.toggle("tiny", scale < WORDS_SCALE);
  }

  pointIn(event: MouseEvent): DOMPoint {
    const matrix = this.svg.getScreenCTM()?.inverse();
    return new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix ?? new DOMMatrix());
  }

  private show(box: Box): void {
    this.box = box;
    this.svg.setAttribute("viewBox", `${box.x} ${box.y} ${box.width} ${box.height}`);
    this.rescaled();
  }
}

export function startGraph(): void {
  const canvas = document.querySelector<HTMLElement>("[data-canvas]");
  const svg = canvas?.querySelector<SVGSVGElement>(".scroll > svg");
  if (!canvas || !svg) return;
  const view = new View(svg);
  document.querySelectorAll<HTMLElement>("[data-tools], [data-find]").forEach((tool) => (tool.hidden = false));
  startPanning(view);
  startZooming(view, canvas);
  startFinding(svg);
  startSelecting(svg);
  startTitles(svg);
  showWorst(svg);
  document.addEventListener("refreshed", () => view.redrawn());
}

/** Where the drawing is larger than its frame, as on a phone, the frame opens on what is selected, what fails, or where calls begin. */
function showWorst(svg: SVGSVGElement): void {
  const frame = svg.parentElement;
  if (!frame || !matchMedia("(max-width: 700px)").matches) return;
  const left = (node: Element): number => node.getBoundingClientRect().left;
  const first = (): Element | undefined => [...svg.querySelectorAll("a.node")].sort((a, b) => left(a) - left(b))[0];
  const kinds = ["a.selected", "a.node.failure", "a.node.degraded"];
  const part = kinds.map((kind) => svg.querySelector(kind)).find((found) => found !== null) ?? first();
  if (!part) return;
  const [seen, own] = [frame.getBoundingClientRect(), part.getBoundingClientRect()];
  frame.scrollLeft += own.left + own.width / 2 - seen.left - seen.width / 2;
  frame.scrollTop += own.top + own.height / 2 - seen.top - seen.height / 2;
}

function startZooming(view: View, canvas: HTMLElement): void {
  view.svg.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.metaKey) return; // a plain wheel scrolls the page
      event.preventDefault();
      view.zoom(event.deltaY > 0 ? 1.15 : 1 / 1.15, view.pointIn(event));
    },
    { passive: false },
  );
  canvas.addEventListener("click", (event) => {
    const kind = (event.target as Element).closest<HTMLElement>("[data-zoom]")?.dataset.zoom;
    if (kind === "in") view.zoom(1 / 1.3);
    if (kind === "out") view.zoom(1.3);
    if (kind === "fit") view.fit();
  });
}

function startPanning(view: View): void {
  const { svg } = view;
  let from: DOMPoint | undefined;
  let moved = 0;
  svg.addEventListener("pointerdown", (event) => {
    moved = 0;
    // A finger scrolls the drawing's frame, as it scrolls anything else.
    if (event.button === 0 && event.pointerType !== "touch") from = view.pointIn(event);
  });
  svg.addEventListener("pointermove", (event) => {
    if (!from || !(event.buttons & 1)) return;
    moved += Math.abs(event.movementX) + Math.abs(event.movementY);
    if (moved < CLICK_PIXELS) return;
    if (!svg.hasPointerCapture(event.pointerId)) svg.setPointerCapture(event.pointerId);
    const to = view.pointIn(event);
    view.move(from.x - to.x, from.y - to.y);
  });
  for (const end of ["pointerup", "pointercancel"] as const) svg.addEventListener(end, () => (from = undefined));
  // The click that ends a drag selects nothing.
  const swallow = (event: Event): void => {
    if (moved < CLICK_PIXELS) return;
    event.preventDefault();
    event.stopPropagation();
  };
  svg.addEventListener("click", swallow, true);
  svg.addEventListener("dragstart", (event) => event.preventDefault());
}

/** Dims what does not match the name typed, or is not next to it. */
function startFinding(svg: SVGSVGElement): void {
  const input = document.querySelector<HTMLInputElement>("[data-find]");
  if (!input) return;
  const apply = (): void => {
    const wanted = input.value.trim().toLowerCase();
    const nodes = [...svg.querySelectorAll<SVGElement>(".node")];
    const found = new Set(
      nodes.filter((node) => (node.dataset.name ?? "").toLowerCase().includes(wanted)).map((node) => node.dataset.id),
    );
    const near = new Set(found);
    for (const edge of svg.querySelectorAll<SVGElement>(".edge")) {
      const touches = found.has(edge.dataset.source) || found.has(edge.dataset.target);
      edge.classList.toggle("unfound", wanted !== "" && !touches);
      if (touches) near.add(edge.dataset.source).add(edge.dataset.target);
    }
    for (const node of nodes) node.classList.toggle("unfound", wanted !== "" && !near.has(node.dataset.id));
  };
  input.addEventListener("input", apply);
  document.addEventListener("refreshed", apply);
}

/** In a large drawing edges have no titles until they are pointed at. */
function startTitles(svg: SVGSVGElement): void {
  svg.addEventListener("pointerover", (event) => {
    const part = (event.target as Element).closest("a");
    if (!part || part.querySelector("title")) return;
    const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
    title.textContent = part.getAttribute("aria-label");
    part.prepend(title);
  });
}

/** A click on a node or edge swaps the side panel in place; the address follows, so it can be shared. */
function startSelecting(svg: SVGSVGElement): void {
  const show = (href: string): Promise<void> =>
    refresh(href).then((reached) => {
      if (!reached) location.assign(href);
    });
  const pick = (event: MouseEvent): void => {
    const link = (event.target as Element).closest("a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const href = link.getAttribute("href");
    if (!href?.startsWith("/graph")) return;
    event.preventDefault();
    const focused = link.dataset.id;
    history.pushState(null, "", href);
    show(href)
      .then(() => refocus(svg, focused))
      .catch(() => location.assign(href));
  };
  svg.addEventListener("click", pick);
  for (const part of ["detail", "edges"]) {
    document.querySelector<HTMLElement>(`[data-live="${part}"]`)?.addEventListener("click", pick);
  }
  addEventListener("popstate", () => void show(location.href).catch(() => location.reload()));
}

/** The drawing was replaced under the keyboard: puts the focus back on what it was on. */
function refocus(svg: SVGSVGElement, id: string | undefined): void {
  if (!id || document.activeElement !== document.body) return;
  svg.querySelector<SVGElement>(`a[data-id="${CSS.escape(id)}"]`)?.focus({ preventScroll: true });
}
