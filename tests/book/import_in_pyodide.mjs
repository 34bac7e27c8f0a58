// Import under Pyodide's core what of the library needs no other package, and parse all of it.
// Usage: node import_in_pyodide.mjs PYODIDE LIBRARY
import { pathToFileURL } from "node:url";

const [folder, library] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(`${folder}/pyodide.mjs`));
const pyodide = await loadPyodide({ indexURL: folder });
pyodide.mountNodeFS("/library/bnlib", library);
await pyodide.runPythonAsync(`
import pathlib, sys, warnings

warnings.simplefilter("error")
assert sys.platform == "emscripten"
sys.path.insert(0, "/library")
from bnlib.book import glue, optional, peers

assert optional("torch") is None
glue("nothing-keeps-it", 1.0)
files = [*pathlib.Path("/library/bnlib").rglob("*.py")]
for file in files:
    compile(file.read_text("utf8"), str(file), "exec")
print(sys.version.split()[0], len(files), peers(None))
`);
process.exit(0);
