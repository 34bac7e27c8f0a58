// Run all code of a notebook, but the installation, under a Pyodide that is here with its packages.
// Usage: node run_in_pyodide.mjs PYODIDE WHEELS NOTEBOOK PACKAGE...
import { readFileSync, readdirSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, wheels, notebook, ...packages] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(`${folder}/pyodide.mjs`));
const pyodide = await loadPyodide({ indexURL: folder });
await pyodide.loadPackage(packages, { messageCallback: () => {} });
for (const name of readdirSync(wheels).filter((name) => name.endsWith(".whl"))) {
  pyodide.unpackArchive(new Uint8Array(readFileSync(`${wheels}/${name}`)), "wheel");
}
pyodide.globals.set("notebook", readFileSync(notebook, "utf8"));
try {
  pyodide.runPython(`
import json

import matplotlib

matplotlib.use("agg")
names = {"__name__": "__main__"}
for number, cell in enumerate(json.loads(notebook)["cells"]):
    if cell["cell_type"] == "code" and cell["id"] != "install":
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
`);
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
process.exit(0);
