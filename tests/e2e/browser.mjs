// Opens a running dashboard in headless Chromium, as its users do, and checks what they would see.
//
//   node browser.mjs [BASE_URL]                      all checks; prints "N passed, N failed", exits 1 when one failed
//   node browser.mjs screenshots FOLDER [BASE_URL]   one PNG for each page and theme
//
// BASE_URL: a `meshscope demo` that has run for a minute, default http://127.0.0.1:7070. CHROMIUM: path of the browser.
import assert from "node:assert/strict";
import { mkdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { chromium } from "playwright-core";

const ENTRIES = ["/", "/graph", "/alerts", "/rules", "/slos", "/changes", "/traces", "/logs", "/explore", "/targets", "/status"];
/** Pages that stand under another one's entry of the navigation. */
const BELOW = [
  "/alerts/history",
  "/silences",
  "/silences/new",
  "/notifications",
  "/routes",
  "/service/shop/cart?range=15m",
  "/workload/shop/cart-v1?range=15m",
  "/graph?find=errors%20%3E%201%25&hide=idle&compare=1",
];
const PAGES = [...ENTRIES, ...BELOW];
const THEMES = ["light", "dark"];
const WIDTHS = [1440, 360];
const QUERY = "sum by (destination_service_name) (rate(istio_requests_total[1m]))";
/** How long the mesh may take to show the first traffic and traces. */
const TRAFFIC_MS = 90_000;
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const words = process.argv.slice(2);
const folder = words[0] === "screenshots" ? words.splice(0, 2)[1] : undefined;
const base = new URL(words[0] ?? "http://127.0.0.1:7070").origin;
const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const axeSource = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const browser = await chromium.launch({ executablePath, args: FLAGS });

let passed = 0;
let failed = 0;

/** One check: its name, and what must not throw. */
async function check(name, body) {
  try {
    await body();
    passed += 1;
    console.log(`ok   ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}\n     ${String(error?.message ?? error).replaceAll("\n", "\n     ")}`);
  }
}

async function answer(address) {
  const response = await fetch(base + address);
  assert.equal(response.status, 200, `${address} answers ${response.status}`);
  return (await response.json()).data;
}

/** The graph of the last five minutes, as the pages draw it. */
async function graph() {
  const now = Date.now() / 1000;
  const data = await answer(`/api/mesh/v1/graph?start=${now - 300}&end=${now}`);
  return { nodes: data.nodes ?? [], edges: data.edges ?? [] };
}

/** A page of its own context. What it complains of, and where else it asks, is collected. */
async function open(address, { width = 1440, theme = "light", scripts = true } = {}) {
  const context = await browser.newContext({
    viewport: { width, height: width < 700 ? 844 : 900 },
    colorScheme: theme,
    javaScriptEnabled: scripts,
  });
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("request", (request) => {
    if (!request.url().startsWith(base) && !request.url().startsWith("data:")) complaints.push(`asks ${request.url()}`);
  });
  const response = await page.goto(base + address, { waitUntil: "load" });
  return { page, response, complaints, close: () => context.close() };
}

async function withPage(address, options, body) {
  const opened = await open(address, options);
  try {
    await body(opened);
    assert.deepEqual(opened.complaints, [], "the console is clean and nothing is asked elsewhere");
  } finally {
    await opened.close();
  }
}

async function waitForTraffic() {
  const until = Date.now() + TRAFFIC_MS;
  for (;;) {
    const { edges } = await graph();
    const traces = await fetch(`${base}/traces`).then((response) => response.text());
    if (edges.length > 0 && /\/traces\/[0-9a-f]{16,}/.test(traces)) return;
    assert.ok(Date.now() < until, `no edges and traces within ${TRAFFIC_MS / 1000} s at ${base}`);
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}

/** Serious faults that axe finds, in words. */
async function accessibilityFaults(page) {
  // As the browser's own tools do it: evaluation is not bound by the page's policy.
  await page.evaluate(axeSource);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(" | ")}`);
}

async function checkEveryPage() {
  for (const address of PAGES) {
    for (const theme of THEMES) {
      for (const width of WIDTHS) {
        await check(`${address} in ${theme} at ${width} px`, () =>
          withPage(address, { width, theme }, async ({ page, response }) => {
            assert.equal(response.status(), 200);
            assert.equal(await page.locator("h1").count(), 1);
            await page.waitForTimeout(300);
            const beyond = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
            assert.ok(beyond <= 0, `the page is ${beyond} px wider than the window`);
            assert.deepEqual(await accessibilityFaults(page), []);
          }),
        );
      }
    }
  }
}

async function checkPolicy() {
  await check("the policy allows no inline script, no inline style, no other origin", async () => {
    const response = await fetch(`${base}/graph`);
    const policy = response.headers.get("content-security-policy") ?? "";
    assert.match(policy, /default-src 'self'/);
    assert.doesNotMatch(policy, /unsafe|https?:/);
    assert.doesNotMatch(await response.text(), / style=| on[a-z]+="/);
  });
}

async function checkGraph() {
  await check("the graph has the simulator's nodes and edges", () =>
    withPage("/graph", {}, async ({ page }) => {
      const { nodes, edges } = await graph();
      const drawn = (kind) => page.locator(`a.${kind}`).evaluateAll((all) => all.map((one) => one.dataset.id));
      const [drawnNodes, drawnEdges] = [await drawn("node"), await drawn("edge")];
      const missing = (ids, from) => ids.filter((id) => !from.includes(id));
      assert.ok(nodes.length >= 10, `${nodes.length} nodes`);
      assert.deepEqual(missing(nodes.map((node) => node.id), drawnNodes), []);
      assert.deepEqual(missing(edges.map((edge) => edge.id), drawnEdges), []);
      const boxes = await page.locator("a.node > rect:first-of-type").evaluateAll((all) =>
        all.map((one) => one.getBoundingClientRect()).map(({ left, top, right, bottom }) => ({ left, top, right, bottom })),
      );
      const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
      const covering = boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) => meet(a, b)));
      assert.equal(covering.length, 0, "no node covers another");
    }),
  );
  await check("a click on a node shows its numbers, and the back button takes them away", () =>
    withPage("/graph", {}, async ({ page }) => {
      const { nodes } = await graph();
      const busiest = nodes.toSorted((a, b) => b.requestsPerSecondIn - a.requestsPerSecondIn)[0];
      await page.locator(`a.node[data-id="${busiest.id}"]`).click();
      await page.locator("aside h2", { hasText: busiest.name }).waitFor();
      const panel = await page.locator("aside").innerText();
      assert.match(panel, /Requests in\s+[\d.]+k?\/s/);
      assert.match(panel, /Errors in\s+[\d.<>]+%/);
      assert.match(page.url(), /select=/);
      await page.goBack();
      await page.locator("aside h2").waitFor({ state: "detached" });
      assert.doesNotMatch(page.url(), /select=/);
    }),
  );
  await check("a click on an edge shows rate, errors, latency, mutual TLS; refreshing keeps it, and the zoom", () =>
    withPage("/graph", {}, async ({ page }) => {
      const { edges } = await graph();
      const busiest = edges
        .filter((edge) => edge.requestsPerSecond > 0)
        .toSorted((a, b) => b.requestsPerSecond - a.requestsPerSecond)[0];
      await page.locator("[data-zoom=in]").click();
      const seen = await page.locator(".scroll > svg").getAttribute("viewBox");
      const edge = page.locator(`a.edge[data-id="${busiest.id}"]`);
      await edge.focus();
      await page.keyboard.press("Enter");
      await page.locator("aside h2", { hasText: "→" }).waitFor();
      const panel = await page.locator("aside").innerText();
      for (const fact of [/Requests\s+[\d.]+k?\/s/, /Errors\s+[\d.<>]+%/, /p50\s+[\d.]+ m?s/, /p95\s/, /p99\s/, /Mutual TLS\s+[\d.]+%/]) {
        assert.match(panel, fact);
      }
      assert.equal(await page.locator("a.edge.selected").count(), 1);
      const until = await page.locator('[data-live="until"] time').getAttribute("datetime");
      await page.waitForFunction(
        (old) => document.querySelector('[data-live="until"] time')?.getAttribute("datetime") !== old,
        until,
        { timeout: 15_000 },
      );
      assert.equal(await page.locator("a.edge.selected").count(), 1, "still selected");
      assert.equal(await page.locator(".scroll > svg").getAttribute("viewBox"), seen, "still zoomed");
      assert.ok(await page.locator("aside h2", { hasText: "→" }).isVisible());
    }),
  );
  await check("finding a node dims the others; dragging moves without selecting", () =>
    withPage("/graph", {}, async ({ page }) => {
      const all = await page.locator("a.node").count();
      await page.locator("#find").fill("reviews");
      const dimmed = await page.locator("a.node.dimmed").count();
      assert.ok(dimmed > 0 && dimmed < all, `${dimmed} of ${all} dimmed`);
      const before = await page.locator(".scroll > svg").getAttribute("viewBox");
      const box = await page.locator("a.node").first().boundingBox();
      await page.mouse.move(box.x + 10, box.y + 10);
      await page.mouse.down();
      await page.mouse.move(box.x + 90, box.y + 60, { steps: 5 });
      await page.mouse.up();
      assert.notEqual(await page.locator(".scroll > svg").getAttribute("viewBox"), before);
      assert.doesNotMatch(page.url(), /select=/);
    }),
  );
  await check("without scripts a node's link shows its numbers", () =>
    withPage("/graph", { scripts: false }, async ({ page }) => {
      const href = await page.locator("a.node").first().getAttribute("href");
      await page.goto(base + href);
      assert.match(await page.locator("aside").innerText(), /Requests in/);
    }),
  );
}

async function checkTraces() {
  await check("a search finds traces, and one opens as a waterfall", () =>
    withPage("/traces", {}, async ({ page }) => {
      const services = await page.locator("select[name=service] option").allInnerTexts();
      assert.ok(services.length > 3, `services to choose from: ${services}`);
      const chosen = services.find((name) => name.includes("frontend")) ?? services[1];
      await page.locator("select[name=service]").selectOption({ label: chosen });
      await page.locator("input[name=min]").fill("1ms");
      await page.getByRole("button", { name: "Search" }).click();
      await page.waitForURL(/service=/);
      const first = page.locator("tbody a").first();
      await first.click();
      await page.waitForURL(/\/traces\/[0-9a-f]+$/);
      const bars = await page.locator(".spanrow").count();
      assert.ok(bars > 1, `${bars} spans`);
      const widths = await page.locator("rect.when").evaluateAll((all) => all.map((one) => one.getBoundingClientRect().width));
      assert.ok(Math.max(...widths) > 100, `bars are ${widths} px wide`);
      await page.locator(".spanrow > summary").first().click();
      assert.match(await page.locator(".spanrow[open] dl").innerText(), /span id\s+[0-9a-f]{16}/);
      assert.deepEqual(await accessibilityFaults(page), []);
    }),
  );
}

async function checkExplore() {
  await check("Explore completes a metric, runs on Ctrl+Enter, and plots in both themes", () =>
    withPage("/explore", {}, async ({ page }) => {
      const area = page.locator("textarea");
      await area.pressSequentially("istio_requests_t");
      await page.getByRole("option", { name: "istio_requests_total", exact: true }).waitFor();
      await page.keyboard.press("Tab");
      assert.equal(await area.inputValue(), "istio_requests_total");
      await area.fill(QUERY);
      await page.keyboard.press("Control+Enter");
      await page.waitForURL(/query=/);
      await page.locator(".uplot canvas").waitFor();
      assert.ok((await page.locator(".u-legend .u-series").count()) > 2);
      await page.locator("[data-theme-switch]").click();
      await page.waitForTimeout(700);
      const inked = () =>
        page.locator(".uplot canvas").evaluate((canvas) => {
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          return data.some((byte) => byte !== 0);
        });
      assert.equal(await page.locator("html").getAttribute("data-theme"), "dark");
      assert.ok(await inked(), "the plot is drawn in the other theme too");
      assert.ok((await page.locator("tbody tr").count()) > 2);
    }),
  );
  await check("a wrong query says where it is wrong", () =>
    withPage(`/explore?query=${encodeURIComponent('rate(up{job="<script>alert(1)</script>"}[5m)')}`, {}, async ({ page }) => {
      assert.ok((await page.getByRole("alert").innerText()).length > 10);
      assert.equal(await page.locator("main script").count(), 0);
    }),
  );
}

async function checkSilences() {
  await check("an alert's button opens the form filled in; it is previewed, made, seen on the alert and ended", () =>
    withPage("/alerts", {}, async ({ page }) => {
      await page.locator("li.alert a", { hasText: /^Silence/ }).first().click();
      await page.waitForURL(/silences\/new\?alert=/);
      const matchers = await page.locator("textarea[name=matchers]").inputValue();
      assert.match(matchers, /^alertname="/m);
      assert.match(await page.getByRole("region", { name: "Preview" }).innerText(), /Would mute [1-9]\d* of/);
      assert.deepEqual(await accessibilityFaults(page), []);
      await page.locator("input[name=author]").fill("browser");
      await page.locator("textarea[name=comment]").fill("checked in <b>the</b> browser");
      await page.getByRole("button", { name: "Create silence" }).click();
      await page.waitForURL(/silences\/[0-9a-f-]{36}$/);
      assert.match(await page.locator("main").innerText(), /checked in <b>the<\/b> browser/);
      await page.getByRole("button", { name: "Expire" }).click();
      await page.getByText("Mutes nothing any more").waitFor();
    }),
  );
  for (const scripts of [true, false]) {
    await check(`a silence without author keeps what was typed and says so, scripts ${scripts}`, async () => {
      const { page, close } = await open("/silences/new", { scripts });
      try {
        await page.locator("textarea[name=matchers]").fill("nonsense");
        await page.locator("textarea[name=comment]").fill("kept");
        await page.getByRole("button", { name: "Create silence" }).click();
        await page.getByText("bad matcher format: nonsense").waitFor();
        assert.equal(await page.locator("textarea[name=comment]").inputValue(), "kept\n".trim());
        assert.equal(await page.getByText("Should not be empty").count(), 1);
      } finally {
        await close();
      }
    });
  }
}

async function checkBadAddresses() {
  for (const [address, status] of [
    ["/graph?range=soon", 400],
    ["/graph?view=pie", 400],
    ["/graph?range=5m&range=6m", 400],
    ["/graph?select=%3Cscript%3E%22%27", 200],
    ["/graph?find=eror%20%3E%201", 400],
    ["/graph?focus=%3Cscript%3E", 200],
    ["/service/shop/nobody", 404],
    ["/workload/%3Cscript%3E/%E2%80%AE%22", 404],
    ["/edge/nothing", 404],
    ["/service/shop/cart?at=2049-01-01T00:00:00Z", 400],
    ["/alerts?q=severity%3D~%22(%22", 400],
    ["/alerts/history?range=soon", 400],
    ["/alerts/nohex", 400],
    ["/alerts/0000000000000001", 404],
    ["/silences/nobody", 404],
    ["/notifications/nobody", 400],
    ["/routes?labels=nonsense", 400],
    ["/traces?min=quick", 400],
    ["/traces?service=%00%E2%80%AE%F0%9F%A6%80", 200],
    ["/traces/%FF", 400],
    ["/traces/nothex", 400],
    ["/traces/00000000000000000000000000000001", 404],
    ["/nowhere", 404],
  ]) {
    await check(`${address} is a readable page with status ${status}`, async () => {
      const opened = await open(address);
      try {
        assert.equal(opened.response.status(), status);
        assert.equal(await opened.page.locator("h1").count(), 1);
        assert.equal(await opened.page.locator("nav.nav a").count(), ENTRIES.length);
      } finally {
        await opened.close();
      }
    });
  }
}

async function takeScreenshots(into) {
  await mkdir(into, { recursive: true });
  const { edges } = await graph();
  const worst = edges.toSorted((a, b) => (b.errorRatio ?? 0) - (a.errorRatio ?? 0))[0];
  const traces = await fetch(`${base}/traces`).then((response) => response.text());
  const named = {
    overview: "/",
    graph: "/graph",
    "graph-edge": `/graph?select=${encodeURIComponent(worst.id)}`,
    alerts: "/alerts",
    history: "/alerts/history",
    silence: "/silences/new?matchers=severity%3D%22critical%22",
    notifications: "/notifications",
    routes: "/routes",
    traces: "/traces",
    trace: /\/traces\/[0-9a-f]{16,}/.exec(traces)[0],
    explore: `/explore?range=15m&query=${encodeURIComponent(QUERY)}`,
    targets: "/targets",
  };
  for (const [name, address] of Object.entries(named)) {
    for (const theme of THEMES) {
      const { page, close } = await open(address, { theme });
      await page.waitForTimeout(1000);
      const file = path.join(into, theme === "light" ? `${name}.png` : `${name}-${theme}.png`);
      await page.screenshot({ path: file });
      console.log(file);
      await close();
    }
  }
}

try {
  await waitForTraffic();
  if (folder) {
    await takeScreenshots(folder);
  } else {
    await checkEveryPage();
    await checkPolicy();
    await checkGraph();
    await checkTraces();
    await checkExplore();
    await checkSilences();
    await checkBadAddresses();
    console.log(`${passed} passed, ${failed} failed`);
  }
} catch (error) {
  failed += 1;
  console.error(`browser test: ${error?.message ?? error}`);
} finally {
  await browser.close();
}
process.exitCode = failed > 0 ? 1 : 0;
