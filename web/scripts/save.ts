// Saves the drawing of the graph as it is seen, as SVG or PNG: the styles of the page are written into it.

/** What of the drawing's look comes from the page's styles. */
const LOOK = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "opacity", "font", "display"];
/** Pixels of the picture for one of the screen, and its longest side: what canvases of all browsers hold. */
const SHARPNESS = 2;
const SIDE_MAX = 8000;

function styled(svg: SVGSVGElement): { text: string; width: number; height: number } {
  // The picture has the drawing's own size, whatever it has on the screen.
  const tiny = svg.classList.contains("tiny");
  svg.classList.remove("tiny");
  const copy = svg.cloneNode(true) as SVGSVGElement;
  const from = [svg, ...svg.querySelectorAll<SVGElement>("*")];
  const to = [copy, ...copy.querySelectorAll<SVGElement>("*")];
  from.forEach((element, at) => {
    const style = getComputedStyle(element);
    for (const name of LOOK) to[at]?.setAttribute(name, style.getPropertyValue(name));
    to[at]?.removeAttribute("href");
  });
  svg.classList.toggle("tiny", tiny);
  const { width, height } = svg.viewBox.baseVal;
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", String(Math.round(width)));
  copy.setAttribute("height", String(Math.round(height)));
  return { text: new XMLSerializer().serializeToString(copy), width, height };
}

function download(file: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

async function painted(svg: SVGSVGElement): Promise<Blob> {
  const { text, width, height } = styled(svg);
  const scale = Math.min(SHARPNESS, SIDE_MAX / Math.max(width, height));
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const brush = canvas.getContext("2d");
  if (!brush) throw new Error("no canvas");
  brush.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--surface").trim() || "#fff";
  brush.fillRect(0, 0, canvas.width, canvas.height);
  brush.drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve, reject) => {
    canvas.toBlob((file) => (file ? resolve(file) : reject(new Error("no picture"))), "image/png");
  });
}

export function startSaving(): void {
  const svg = document.querySelector<SVGSVGElement>("[data-canvas] .scroll > svg");
  if (!svg) return;
  for (const button of document.querySelectorAll<HTMLButtonElement>("[data-save]")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const name = `service-graph.${button.dataset.save}`;
      if (button.dataset.save === "svg") return download(new Blob([styled(svg).text], { type: "image/svg+xml" }), name);
      painted(svg)
        .then((file) => download(file, name))
        .catch(() => (button.textContent = "PNG failed"));
    });
  }
}
