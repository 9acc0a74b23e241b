// Dots that move along the calls of the graph, faster for more requests. Can be turned off, and is where motion is unwanted.

const STORED = "traffic";
/** In larger drawings dots cost more than they tell. */
const EDGES_MAX = 150;

function chosen(): string | null {
  try {
    return localStorage.getItem(STORED);
  } catch {
    return null; // Storage may be forbidden.
  }
}

export function startTraffic(): void {
  const button = document.querySelector<HTMLButtonElement>("[data-traffic]");
  const svg = document.querySelector<SVGSVGElement>("[data-canvas] .scroll > svg");
  if (!button || !svg) return;
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let on = chosen() === null ? !still.matches : chosen() === "on";
  const draw = (): void => {
    svg.querySelectorAll(".flow").forEach((dots) => dots.remove());
    const edges = [...svg.querySelectorAll<SVGElement>("a.edge:not(.speed-0):not(.dimmed):not(.unfound)")];
    const tooMany = edges.length > EDGES_MAX;
    button.title = tooMany ? `Off: more than ${EDGES_MAX} edges` : "Dots that move along the calls";
    button.setAttribute("aria-pressed", String(on && !tooMany));
    if (!on || tooMany || still.matches) return;
    for (const edge of edges) {
      const line = edge.querySelector(".line");
      if (!line) continue;
      const dots = document.createElementNS("http://www.w3.org/2000/svg", "path");
      dots.setAttribute("d", line.getAttribute("d") ?? "");
      dots.setAttribute("class", "flow");
      // The dots go on where those of the drawing before were.
      dots.style.animationDelay = `-${Math.round(performance.now())}ms`;
      line.after(dots);
    }
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    on = button.getAttribute("aria-pressed") !== "true";
    try {
      localStorage.setItem(STORED, on ? "on" : "off");
    } catch {
      // It then lasts as long as the page.
    }
    draw();
  });
  document.addEventListener("refreshed", draw);
  still.addEventListener("change", draw);
  draw();
}
