// Puts a large drawing that came as data into the one that is seen: what is the same is left alone, so a refresh neither
// makes thousands of elements anew nor lays out and paints what has not changed. `src/web/drawing/update.rs` makes the data.

/** Id, class, title, name, place, numbers, [left, top, width, height]. */
type Node = [string, string, string, string, string, string, [number, number, number, number]];
/** Id, source, target, class, title, path (empty where it is here already), health, whether it has layers. */
type Edge = [string, string, string, string, string, string, string, number];

interface Update {
  /** The address of the page with nothing selected. */
  base: string;
  nodes: Node[];
  edges: Edge[];
}

const SVG = "http://www.w3.org/2000/svg";

/** Changes the drawing to what `next` holds. Returns false when it holds no data: then the drawing is all in its markup. */
export function patchDrawing(part: Element, next: Element): boolean {
  const data = next.querySelector("script")?.textContent;
  const edges = part.querySelector('[data-group="edges"]');
  const nodes = part.querySelector('[data-group="nodes"]');
  if (!data || !edges || !nodes) return false;
  const update = JSON.parse(data) as Update;
  const address = (id: string): string => `${update.base}${update.base.includes("?") ? "&" : "?"}select=${encodeURIComponent(id)}`;
  arrange(edges, update.edges, (link, edge) => drawEdge(link, edge, address));
  arrange(nodes, update.nodes, (link, node) => drawNode(link, node, address));
  for (const group of ["frames", "labels"]) swapGroup(part, next, `[data-group="${group}"]`);
  for (const { name, value } of next.attributes) set(part, name, value);
  return true;
}

/** One link for each of `all`, in their order. What is there keeps its element, and with it the focus. */
function arrange<Part extends [string, ...unknown[]]>(group: Element, all: Part[], draw: (link: SVGElement, part: Part) => void): void {
  const wanted = new Set(all.map(([id]) => id));
  const before = new Map<string, SVGElement>();
  for (const link of group.querySelectorAll<SVGElement>(":scope > a")) {
    const id = link.dataset.id ?? "";
    if (wanted.has(id)) before.set(id, link);
    else link.remove();
  }
  let place = group.firstElementChild;
  for (const part of all) {
    const link = before.get(part[0]) ?? (document.createElementNS(SVG, "a") as SVGElement);
    draw(link, part);
    if (link === place) place = place.nextElementSibling;
    else group.insertBefore(link, place);
  }
}

function drawEdge(link: SVGElement, [id, source, target, kind, title, path, health, layered]: Edge, address: (id: string) => string): void {
  let line = link.querySelector(".line");
  if (!line) {
    line = shape("path", { class: "line" });
    link.append(line);
    for (const [name, value] of [["data-id", id], ["data-source", source], ["data-target", target]] as const) set(link, name, value);
  }
  const layer = link.querySelector(".layer");
  if (layered && !layer) line.before(shape("path", { class: "layer", d: line.getAttribute("d") ?? "" }));
  if (!layered) layer?.remove();
  dress(link, kind, title, address(id));
  if (path) for (const one of link.querySelectorAll("path")) set(one, "d", path);
  set(line, "marker-end", `url(#arrow-${health})`);
}

function drawNode(link: SVGElement, [id, kind, title, name, place, numbers, box]: Node, address: (id: string) => string): void {
  const [left, top, width, height] = box;
  if (!link.querySelector("rect")) {
    link.append(
      shape("rect", { rx: "9" }),
      shape("rect", { class: "mark", width: "5", x: "8", y: "8", rx: "2.5" }),
      // Words of a name are read out with spaces between them.
      shape("text", { x: "21", y: "20" }),
      " ",
      shape("text", { class: "sub", x: "21", y: "34" }),
      " ",
      shape("text", { class: "sub numbers", x: "21", y: "48" }),
    );
    set(link, "data-id", id);
  }
  dress(link, kind, title, address(id));
  set(link, "data-name", `${name} ${place}`);
  set(link, "transform", `translate(${left} ${top})`);
  const [frame, mark] = link.querySelectorAll("rect");
  set(frame, "width", String(width));
  set(frame, "height", String(height));
  set(mark, "height", String(height - 16));
  const texts = link.querySelectorAll("text");
  [name, place, numbers].forEach((text, at) => {
    const own = texts[at];
    if (own && own.textContent !== text) own.textContent = text;
  });
}

/** What nodes and edges have in common. A class that the page's own search gave stays. */
function dress(link: SVGElement, kind: string, title: string, href: string): void {
  set(link, "class", link.classList.contains("unfound") ? `${kind} unfound` : kind);
  set(link, "href", href);
  if (!set(link, "aria-label", title)) return;
  const shown = link.querySelector("title");
  if (shown) shown.textContent = title;
}

function swapGroup(part: Element, next: Element, group: string): void {
  const [own, fresh] = [part.querySelector(group), next.querySelector(group)];
  if (own && fresh && own.innerHTML !== fresh.innerHTML) own.replaceChildren(...document.importNode(fresh, true).childNodes);
}

function shape(kind: string, attributes: Record<string, string>): Element {
  const made = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** Sets an attribute that differs; an equal one would still be work for the browser. Returns whether it did. */
function set(of: Element | null | undefined, name: string, value: string): boolean {
  if (!of || of.getAttribute(name) === value) return false;
  of.setAttribute(name, value);
  return true;
}
