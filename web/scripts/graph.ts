// The service graph: pan, zoom, find, and selection without leaving the page. The server draws it.
import { refresh } from "./live";

interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

export function startGraph(): void {
  const canvas = document.querySelector<HTMLElement>("[data-canvas]");
  const svg = canvas?.querySelector("svg");
  if (!canvas || !svg) return;
  const whole = boxOf(svg);
  let box = { ...whole };
  const show = (next: Box): void => {
    box = next;
    svg.setAttribute("viewBox", `${box.x} ${box.y} ${box.width} ${box.height}`);
  };
  const zoom = (factor: number, at = { x: box.x + box.width / 2, y: box.y + box.height / 2 }): void => {
    const width = Math.min(Math.max(box.width * factor, whole.width / 20), whole.width * 3);
    const scale = width / box.width;
    show({ x: at.x - (at.x - box.x) * scale, y: at.y - (at.y - box.y) * scale, width, height: box.height * scale });
  };
  startPanning(svg, () => box, show);
  svg.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.metaKey) return; // a plain wheel scrolls the page
      event.preventDefault();
      zoom(event.deltaY > 0 ? 1.15 : 1 / 1.15, pointIn(svg, event));
    },
    { passive: false },
  );
  const tools = canvas.querySelector<HTMLElement>("[data-tools]");
  if (tools) tools.hidden = false;
  tools?.addEventListener("click", (event) => {
    const kind = (event.target as Element).closest<HTMLElement>("[data-zoom]")?.dataset.zoom;
    if (kind === "in") zoom(1 / 1.3);
    if (kind === "out") zoom(1.3);
    if (kind === "fit") show({ ...whole });
  });
  startFinding(svg);
  startSelecting(svg);
}

function boxOf(svg: SVGSVGElement): Box {
  const { x, y, width, height } = svg.viewBox.baseVal;
  return { x, y, width, height };
}

function pointIn(svg: SVGSVGElement, event: MouseEvent): { x: number; y: number } {
  const matrix = svg.getScreenCTM()?.inverse();
  return new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix ?? new DOMMatrix());
}

function startPanning(svg: SVGSVGElement, box: () => Box, show: (box: Box) => void): void {
  let from: { x: number; y: number } | undefined;
  let moved = 0;
  svg.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    from = pointIn(svg, event);
    moved = 0;
  });
  svg.addEventListener("pointermove", (event) => {
    if (!from || !(event.buttons & 1)) return;
    moved += Math.abs(event.movementX) + Math.abs(event.movementY);
    if (moved < 4) return; // a click that trembles is a click
    if (!svg.hasPointerCapture(event.pointerId)) svg.setPointerCapture(event.pointerId);
    const to = pointIn(svg, event);
    const { x, y, width, height } = box();
    show({ x: x - (to.x - from.x), y: y - (to.y - from.y), width, height });
  });
  svg.addEventListener("pointerup", () => {
    from = undefined;
  });
  // The click that ends a drag selects nothing.
  svg.addEventListener("click", (event) => moved >= 4 && (event.preventDefault(), event.stopPropagation()), true);
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
      edge.classList.toggle("dimmed", wanted !== "" && !touches);
      if (touches) near.add(edge.dataset.source).add(edge.dataset.target);
    }
    for (const node of nodes) node.classList.toggle("dimmed", wanted !== "" && !near.has(node.dataset.id));
  };
  input.addEventListener("input", apply);
  document.addEventListener("refreshed", apply);
}

/** A click on a node or edge swaps the side panel in place; the address follows, so it can be shared. */
function startSelecting(svg: SVGSVGElement): void {
  const go = (href: string): void => {
    history.pushState(null, "", href);
    refresh(href).catch(() => location.assign(href));
  };
  const pick = (event: MouseEvent): void => {
    const link = (event.target as Element).closest("a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const href = link.getAttribute("href");
    if (!href?.startsWith("/graph")) return;
    event.preventDefault();
    go(href);
  };
  svg.addEventListener("click", pick);
  document.querySelector('[data-live="detail"]')?.addEventListener("click", (event) => pick(event as MouseEvent));
  document.querySelector('[data-live="edges"]')?.addEventListener("click", (event) => pick(event as MouseEvent));
  addEventListener("popstate", () => void refresh(location.href).catch(() => location.reload()));
}
