// One measurement of llama.cpp as node-llama-cpp ships it: prompt and decode speed, start to first token.
//
//   node bench_llama.mjs FOLDER MODEL.gguf THREADS PROMPT COUNT        FOLDER: where the package is installed
//
// SPDX-License-Identifier: Apache-2.0

import {createRequire} from "node:module";
import {pathToFileURL} from "node:url";
import path from "node:path";

const [folder, modelPath, threads, promptCount, count] = process.argv.slice(2);
const resolve = createRequire(path.join(path.resolve(folder), "package.json")).resolve;
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(resolve("node-llama-cpp")));

const seconds = () => Number(process.hrtime.bigint()) / 1e9;
const llama = await getLlama({gpu: false, build: "never", maxThreads: Number(threads), logLevel: LlamaLogLevel.error,
                              progressLogs: false});

const ids = (n, from) => Array.from({length: n}, (_, i) => 259 + (((i + from) * 40503) % 30000));

async function open() {
	const start = seconds();
	const model = await llama.loadModel({modelPath, gpuLayers: 0});
	const context = await model.createContext({contextSize: Number(promptCount) + Number(count) + 8, batchSize: 512,
	                                           threads: Number(threads), sequences: 1});
	return {start, model, context, sequence: context.getSequence()};
}

// Times of the first and of the last token that 'evaluate' gives.
async function generate(sequence, prompt, n) {
	const start = seconds();
	let first = 0, seen = 0;
	for await (const token of sequence.evaluate(prompt, {temperature: 0, yieldEogTokens: true})) {
		void token;
		if (seen++ === 0)
			first = seconds();
		if (seen > n)
			break;
	}
	return {prefill: first - start, decode: (seconds() - first) / n};
}

const warm = await open();
await generate(warm.sequence, ids(1, 0), 1);
await warm.context.dispose();
await warm.model.dispose();

const {start, model, context, sequence} = await open();
await generate(sequence, ids(1, 0), 1);
const started = seconds() - start;
await sequence.clearHistory();
const run = await generate(sequence, ids(Number(promptCount), 1), Number(count));
console.log(JSON.stringify({prefill_tok_s: Number(promptCount) / run.prefill, decode_tok_s: 1 / run.decode,
                            start_warm_seconds: started}));
await context.dispose();
await model.dispose();
