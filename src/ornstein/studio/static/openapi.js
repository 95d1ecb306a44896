// The page of the API, from its OpenAPI description.

import { get } from "./api.js";
import { h } from "./ui.js";

document.documentElement.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
const about = await get("api/openapi.json"), main = document.getElementById("main");
const origin = location.origin, body = JSON.stringify({ count: 4, seed: 0, format: "png" });
main.replaceChildren(
  h("p", { class: "lead" }, about.info.description, " The description for machines: ", h("a", { href: "api/openapi.json" }, "api/openapi.json"), "."),
  h("h2", {}, "With a program"),
  h("pre", { tabindex: 0 }, `curl -H 'Authorization: Bearer TOKEN' -H 'Content-Type: application/json' \\\n  -d '${body}' ${origin}/api/samples --output samples.png`),
  h("p", { class: "lead" }, "TOKEN is what follows token= in the address that the studio printed."),
);
for (const [path, verbs] of Object.entries(about.paths))
  for (const [verb, does] of Object.entries(verbs)) {
    const fields = does.requestBody?.content["application/json"].schema.properties ?? {};
    const rows = Object.entries(fields).map(([name, one]) => h("tr", {}, h("td", {}, h("code", {}, name)), h("td", {}, one.type), h("td", {}, one.default === undefined ? "" : String(one.default)), h("td", {}, one.description, one.enum ? ` One of ${one.enum.join(", ")}.` : "")));
    main.append(h("h2", {}, `${verb.toUpperCase()} ${path}`), h("p", { class: "lead" }, `${does.summary}.`));
    if (rows.length) main.append(h("table", {}, h("tr", {}, ["field", "type", "default", ""].map((words) => h("th", {}, words))), rows));
    main.append(h("p", { class: "facts" }, Object.entries(does.responses).map(([status, one]) => h("span", {}, h("b", {}, status), ` ${one.description}`))));
  }
