// Prints the ids with which llama.cpp continues a prompt, the most probable one each time: the other side of a test of GGUF.
//   node generate.mjs FOLDER MODEL.gguf ID,ID,... COUNT        FOLDER: where tools/llama_cpp/install.sh put the package
import path from "node:path";
import {pathToFileURL} from "node:url";

const [folder, model_path, prompt, count] = process.argv.slice(2);
const entry = path.resolve(folder, "node_modules/node-llama-cpp/dist/index.js");
const {getLlama} = await import(pathToFileURL(entry).href);

const llama = await getLlama({gpu: false, build: "never", logLevel: "error"});
const model = await llama.loadModel({modelPath: model_path});
const context = await model.createContext({contextSize: 128});
const ids = [];
for await (const id of context.getSequence().evaluate(prompt.split(",").map(Number), {temperature: 0, yieldEogToken: true})) {
  ids.push(id);
  if (ids.length >= Number(count)) break;
}
console.log(ids.join(" "));
process.exit(0);
