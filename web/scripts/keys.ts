// Arrow keys in the drawing of the graph: from a node along a call to the next node, up and down among its like. Of all
// nodes and edges one can be reached by the tabulator, so that a large drawing is one stop on the way through the page.

type Part = SVGElement & { dataset: DOMStringMap };

class Walk {
  constructor(private readonly svg: SVGSVGElement) {
    svg.addEventListener("keydown", (event) => this.key(event));
    svg.addEventListener("focusin", (event) => {
      const part = (event.target as Element).closest<Part>("a.node, a.edge");
      if (part) this.makeStop(part);
    });
    document.addEventListener("refreshed", () => this.prepare());
    this.prepare();
  }

  private all(kind: string): Part[] {
    return [...this.svg.querySelectorAll<Part>(`a.${kind}`)];
  }

  /** One stop: what is focused, selected, or the first node. */
  private prepare(): void {
    const parts = this.svg.querySelectorAll<Part>("a.node:not([tabindex='-1']), a.edge:not([tabindex='-1'])");
    parts.forEach((part) => part.setAttribute("tabindex", "-1"));
    const active = document.activeElement?.closest<Part>("a.node, a.edge");
    const stop = active ?? this.svg.querySelector<Part>("a.selected") ?? this.svg.querySelector<Part>("a.node");
    stop?.setAttribute("tabindex", "0");
  }

  private makeStop(part: Part): void {
    this.svg.querySelectorAll("a[tabindex='0']").forEach((other) => other.setAttribute("tabindex", "-1"));
    part.setAttribute("tabindex", "0");
  }

  private key(event: KeyboardEvent): void {
    const part = (event.target as Element).closest<Part>("a.node, a.edge");
    if (!part || event.ctrlKey || event.metaKey || event.altKey) return;
    const isNode = part.classList.contains("node");
    const next = isNode ? this.fromNode(part, event.key) : this.fromEdge(part, event.key);
    if (!next && !event.key.startsWith("Arrow")) return;
    event.preventDefault();
    event.stopPropagation();
    if (!next) return;
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  private fromNode(node: Part, key: string): Part | undefined {
    const id = node.dataset.id;
    if (key === "ArrowRight") return this.first(this.all("edge").filter((edge) => edge.dataset.source === id));
    if (key === "ArrowLeft") return this.first(this.all("edge").filter((edge) => edge.dataset.target === id));
    if (key === "ArrowUp" || key === "ArrowDown") return this.beside(node, this.all("node"), key === "ArrowDown");
    const nodes = this.all("node");
    if (key === "Home") return nodes[0];
    return key === "End" ? nodes.at(-1) : undefined;
  }

  private fromEdge(edge: Part, key: string): Part | undefined {
    const node = (id: string | undefined): Part | undefined => this.all("node").find((one) => one.dataset.id === id);
    if (key === "ArrowRight") return node(edge.dataset.target);
    if (key === "ArrowLeft") return node(edge.dataset.source);
    if (key !== "ArrowUp" && key !== "ArrowDown") return undefined;
    const like = this.all("edge").filter((one) => one.dataset.source === edge.dataset.source);
    return this.ordered(like)[this.ordered(like).indexOf(edge) + (key === "ArrowDown" ? 1 : -1)];
  }

  /** Where a call ends on the screen, top to bottom. */
  private ordered(edges: Part[]): Part[] {
    const top = (edge: Part): number => {
      const target = this.all("node").find((one) => one.dataset.id === edge.dataset.target);
      return target?.getBoundingClientRect().top ?? 0;
    };
    return edges.map((edge) => ({ edge, top: top(edge) })).sort((a, b) => a.top - b.top).map(({ edge }) => edge);
  }

  /** The worst call leads on, else the first from the top. */
  private first(edges: Part[]): Part | undefined {
    const worst = edges.find((edge) => edge.classList.contains("failure")) ?? edges.find((edge) => edge.classList.contains("degraded"));
    return worst ?? this.ordered(edges)[0];
  }

  /** The nearest node above or below, rather in the same column. */
  private beside(node: Part, nodes: Part[], down: boolean): Part | undefined {
    const own = node.getBoundingClientRect();
    let best: { far: number; part: Part } | undefined;
    for (const part of nodes) {
      const box = part.getBoundingClientRect();
      const dy = (box.top - own.top) * (down ? 1 : -1);
      if (part === node || dy < 1) continue;
      const far = dy + Math.abs(box.left - own.left) * 3;
      if (!best || far < best.far) best = { far, part };
    }
    return best?.part;
  }
}

export function startKeys(): void {
  const svg = document.querySelector<SVGSVGElement>("[data-canvas] .scroll > svg");
  if (svg) new Walk(svg);
}
