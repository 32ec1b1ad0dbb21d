// Take the pictures of docs/images from the running stack, each under 300 KB.
//
//   npm install --prefix FOLDER playwright-core && NODE_PATH=FOLDER/node_modules node docs/make_screenshots.mjs
//
// The stack runs, `train` and `map` were run, and Airflow has mapped the scenes. CHROMIUM names the
// browser; PYTHON the environment's Python, .venv/bin/python by default.
import { execFileSync } from "node:child_process";
import { mkdirSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const require = createRequire(join(process.env.NODE_PATH ?? process.cwd(), "x.js"));
const { chromium } = require("playwright-core");

const docs = dirname(fileURLToPath(import.meta.url));
const python = process.env.PYTHON ?? join(docs, "..", ".venv", "bin", "python");
const project = "land-cover";
const dag = "land_cover_training";
const MOST_BYTES = 300_000;

function invoke(...words) {
  return execFileSync(python, ["-m", "invoke", ...words], { cwd: join(docs, ".."), encoding: "utf8" });
}

const services = JSON.parse(invoke("status", "--json")).services;
const url = Object.fromEntries(services.map((service) => [service.service, service.url]));
const secret = Object.fromEntries(
  invoke("status", "--show-credentials").split("\n").map((line) => line.match(/^([\w ]+): (.*)$/)).filter(Boolean)
    .map((found) => [found[1], found[2]]),
);

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const page = await (await browser.newContext({ viewport: { width: 1280, height: 800 } })).newPage();
mkdirSync(join(docs, "images"), { recursive: true });

async function take(name, address, { wait = 3000, before } = {}) {
  await page.goto(address, { waitUntil: "load" });
  await page.waitForTimeout(wait);
  if (before) {
    await before();
    await page.waitForTimeout(1500);
  }
  const path = join(docs, "images", `${name}.png`);
  await page.screenshot({ path });
  const size = statSync(path).size;
  console.log(`${name}.png ${Math.round(size / 1000)} KB`);
  if (size > MOST_BYTES) throw new Error(`${name}.png has more than ${MOST_BYTES} bytes`);
}

async function json(address, options) {
  const answer = await page.request.fetch(address, options);
  return answer.json();
}

// Airflow
await page.goto(url["airflow-api"], { waitUntil: "load" });
await page.waitForSelector("input[name=username]");
await page.fill("input[name=username]", secret["airflow user"]);
await page.fill("input[name=password]", secret["airflow password"]);
await page.keyboard.press("Enter");
await page.waitForTimeout(3000);
await take("airflow_dags", `${url["airflow-api"]}/dags`);
await take("airflow_form", `${url["airflow-api"]}/dags/${dag}`, {
  before: async () => {
    await page.getByRole("button", { name: /trigger/i }).first().click();
    await page.waitForTimeout(1500);
    await page.getByRole("button", { name: "Model", exact: true }).click();
  },
});
await take("airflow_grid", `${url["airflow-api"]}/dags/land_cover_mapping`, { wait: 5000 });
await take("airflow_assets", `${url["airflow-api"]}/assets`, { wait: 4000 });

// MLflow
await page.goto(secret.mlflow, { waitUntil: "load" }); // by the link that logs in
const experiment = (await json(`${url.mlflow}/api/2.0/mlflow/experiments/get-by-name?experiment_name=${project}`)).experiment;
const body = { experiment_ids: [experiment.experiment_id], max_results: 1, order_by: ["attributes.start_time DESC"] };
const run = (await json(`${url.mlflow}/api/2.0/mlflow/runs/search`, { method: "POST", data: body })).runs[0];
const runs = `${url.mlflow}/#/experiments/${experiment.experiment_id}`;
await page.goto(`${runs}/runs`, { waitUntil: "load" });
await page.waitForTimeout(4000);
await page.getByText("Model training", { exact: true }).first().click();
const close = page.locator('button[aria-label="Close"], button[aria-label="Close panel"], button[aria-label*="lose"]');
if (await close.count()) await close.first().click();
await take("mlflow_runs", `${runs}/runs`, { wait: 5000 });
await take("mlflow_run", `${runs}/runs/${run.info.run_id}`, { wait: 5000 });
await take("mlflow_model", `${url.mlflow}/#/models/${project}`, { wait: 5000 });

// JupyterLab, MinIO
await take("jupyter", secret.jupyter, { wait: 9000 });
await page.goto(url.minio, { waitUntil: "load" });
await page.waitForTimeout(3000);
await page.fill("#accessKey", secret["minio user"]);
await page.fill("#secretKey", secret["minio password"]);
await page.keyboard.press("Enter");
await page.waitForTimeout(3000);
await take("minio", `${url.minio}/browser`, {
  before: async () => {
    const licence = page.getByRole("button", { name: "Acknowledge" });
    if (await licence.count()) await licence.click();
  },
});
await browser.close();
