// The gallery: asks the service for images and classes, and shows them. It holds no library and loads nothing else.
"use strict";

const MOST_SHEETS = 20; // drawings kept on the page, the newest first
const SMALL = 128; // pixels of a side below which images are shown with their pixels as squares
const LARGEST_SEED = 2 ** 31;
const at = (id) => document.getElementById(id);
let token = "";
let offer = null;

// The token comes behind the # of a link, which browsers do not send, or from the form. It lives as long as the tab.
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname);
  }
  token = sessionStorage.getItem("token") || "";
}

class Refusal extends Error {
  constructor(status, text) { super(text); this.status = status; }
}

async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Refusal(0, "the service does not answer");
  }
  const content = await response.json().catch(() => ({}));
  if (!response.ok) {
    const wait = response.status === 429 ? ` in ${response.headers.get("Retry-After")} s` : "";
    throw new Refusal(response.status, (content.error || `status ${response.status}`) + wait);
  }
  return content;
}

function showProblem(error) {
  at("problem").hidden = !error;
  at("problem").textContent = error ? `${error.message[0].toUpperCase()}${error.message.slice(1)}.` : "";
  if (error && error.status === 401) {
    for (const id of ["draw", "classify"]) at(id).hidden = true;
    at("access").hidden = false;
    at("token").focus();
  }
}

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function shape([channels, height, width]) {
  return `${width}\u00a0×\u00a0${height} pixels, ${channels === 1 ? "grey" : "colour"}`;
}

function fill() {
  const { generator, classifier, limits, title } = offer;
  at("title").textContent = title;
  document.title = `${title} · gallery`;
  const parts = [];
  if (generator) {
    parts.push(`Images of ${generator.classes.length.toLocaleString("en")} classes, ${shape(generator.image_shape)}.`);
    at("class").replaceChildren(...generator.classes.map((name, id) => make("option", { value: id }, name)));
    at("seed").value = generator.seed;
    at("guidance").value = generator.guidance_scale;
    at("guidance").disabled = !generator.can_be_guided;
    if (!generator.can_be_guided) {
      at("guidance").value = 0;
      at("guidance-note").textContent = "This generator was trained without label dropout, so it cannot be guided. " +
        "The same seed and settings give the same images.";
    }
    at("steps").value = Math.min(generator.steps, limits.steps);
    at("steps").max = limits.steps;
    at("count").value = Math.min(8, limits.images);
    at("count").max = limits.images;
  }
  if (classifier) {
    const count = classifier.classes.length.toLocaleString("en");
    parts.push(`A classifier of ${count} classes; images are resized to ${shape(classifier.image_shape)}.`);
  }
  at("about").textContent = parts.join(" ");
  at("access").hidden = true;
  at("draw").hidden = !generator;
  at("classify").hidden = !classifier;
}

async function enter() {
  try {
    offer = await ask("api/models");
    showProblem(null);
    fill();
  } catch (error) {
    showProblem(error.status === 401 && !token ? Object.assign(error, { message: "enter the token" }) : error);
  }
}

function sheet(drawn) {
  const count = drawn.images.length;
  const settings = `seed ${drawn.seed}, guidance scale ${drawn.guidance_scale}, ${drawn.steps} steps`;
  const small = offer.generator.image_shape[2] < SMALL ? "pixels" : "";
  const images = drawn.images.map((png, place) => {
    const number = drawn.first + place;
    const source = `data:image/png;base64,${png}`;
    const name = drawn.class.replace(/[^\p{L}\p{N}_-]+/gu, "_");
    const image = make("img", { src: source, alt: `Drawn image ${number + 1} of class ${drawn.class}`, class: small });
    const file = `${name}-seed${drawn.seed}-${number}.png`;
    return make("li", {}, make("a", { href: source, download: file, title: "Save this image" }, image));
  });
  const caption = make("figcaption", {}, make("strong", {}, drawn.class), ` · ${settings}`);
  return make("figure", { class: "sheet", "aria-label": `${count} images of class ${drawn.class}, ${settings}` },
    caption, make("ul", { class: "thumbs" }, ...images));
}

async function working(state, text, buttons, job) {
  const began = performance.now();
  state.textContent = text;
  for (const button of buttons) button.disabled = true;
  try {
    const said = await job();
    state.textContent = `${said} in ${((performance.now() - began) / 1000).toFixed(1)} s.`;
    showProblem(null);
  } catch (error) {
    state.textContent = "";
    showProblem(error);
  } finally {
    for (const button of buttons) button.disabled = false;
  }
}

function draw() {
  const wanted = {
    class: Number(at("class").value), seed: at("seed").valueAsNumber, guidance_scale: at("guidance").valueAsNumber,
    steps: at("steps").valueAsNumber, images: at("count").valueAsNumber,
  };
  return working(at("drawing-state"), "Drawing …", [at("draw-now"), at("other-seed")], async () => {
    const headers = { "Content-Type": "application/json" };
    const drawn = await ask("api/images", { method: "POST", headers, body: JSON.stringify(wanted) });
    at("drawn").prepend(sheet(drawn));
    while (at("drawn").children.length > MOST_SHEETS) at("drawn").lastElementChild.remove();
    return `${drawn.images.length} ${drawn.images.length === 1 ? "image" : "images"} of ${drawn.class}`;
  });
}

// No classifier is certain, so what would be rounded to 100.0 % is not.
function perCent(share) {
  return share > 0.9995 ? "> 99.9 %" : `${(100 * share).toFixed(1)} %`;
}

function bar(share) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 10");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  for (const [kind, width] of [["track", 100], ["bar", 100 * share]]) {
    const part = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    part.setAttribute("class", kind);
    part.setAttribute("width", width);
    part.setAttribute("height", 10);
    part.setAttribute("rx", 2);
    svg.append(part);
  }
  return svg;
}

function classify(file) {
  if (file.size > offer.limits.upload_bytes) {
    showProblem(new Refusal(413, `${file.name} has more than ${Math.floor(offer.limits.upload_bytes / 2 ** 20)} MiB`));
    return undefined;
  }
  return working(at("uploading-state"), `Looking at ${file.name} …`, [at("file")], async () => {
    const headers = { "Content-Type": "application/octet-stream" };
    const { classes } = await ask("api/classify", { method: "POST", headers, body: file });
    const picture = make("img", { alt: `The image ${file.name}` });
    const address = URL.createObjectURL(file);
    picture.addEventListener("load", () => {
      picture.classList.toggle("pixels", picture.naturalWidth < SMALL);
      URL.revokeObjectURL(address);
    });
    picture.addEventListener("error", () => picture.remove()); // a format that the classifier reads and this browser not
    picture.src = address;
    const rows = classes.map((found) => make("li", {}, make("span", {}, found.class), bar(found.probability),
      make("span", { class: "share" }, perCent(found.probability))));
    const list = make("ol", { class: "found", "aria-label": `Most probable classes of ${file.name}` }, ...rows);
    at("found").replaceChildren(make("div", { class: "sheet upload" }, make("div", {}, picture), make("div", {}, list)));
    return `${file.name} is most probably ${classes[0].class}; found`;
  });
}

at("access").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value.trim();
  sessionStorage.setItem("token", token);
  enter();
});
at("drawing").addEventListener("submit", (event) => { event.preventDefault(); draw(); });
at("other-seed").addEventListener("click", () => {
  at("seed").value = Math.floor(Math.random() * LARGEST_SEED);
  if (at("drawing").reportValidity()) draw();
});
at("uploading").addEventListener("submit", (event) => event.preventDefault());
at("file").addEventListener("change", () => { if (at("file").files.length) classify(at("file").files[0]); });
for (const kind of ["dragover", "dragleave", "drop"]) {
  at("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) classify(event.dataTransfer.files[0]);
  });
}
takeToken();
enter();
