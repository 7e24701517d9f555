// Token ids of llama.cpp for the vocabularies of make.py:
//   node expected.mjs FOLDER_WITH_GGUFS > expected.json
// with node-llama-cpp 3.22.1 (llama.cpp v0.5.0).
import path from "node:path";
import {getLlama} from "node-llama-cpp";

const texts = [
  "", " ", "hello world", "  hello   world  ", "the kama of tono and the lume.",
  "ｈｅｌｌｏ　ｗｏｒｌｄ！", "caf\u0065\u0301 mu\u0308n\u0303", "ﬁne \u200b\u00a0 ok\tx\ny\n\n",
  "日本語 語日x", "unknown: ÿþ ☃☃☃ snow☃man", "a<extra_0>b <extra_0> c", "<ext<e< <extra_1> ﬁ<extra_0>ﬁ",
  "[x] [y] [x", "ﷺ", "</s> <unk> <pad>", "🦙 llama's\r\n\\n abcd abcdef", "<s>the<s> the",
  "<0x0A> ▁ ▁▁the", "e\u0301\u0301 e \u0301", "\u{0}a\u{0}", "1234 (23).",
];
const llama = await getLlama({gpu: false, build: "never", logLevel: "error"});
const out = {};
for (const name of ["unigram", "unigram-spaces", "rwkv"]) {
  const model = await llama.loadModel({modelPath: path.join(process.argv[2], `${name}.gguf`), vocabOnly: true});
  out[name] = texts.map((text) => {
    const ids = [...model.tokenize(text, false)];
    const idsParse = [...model.tokenize(text, true)];
    return {text, ids, ids_parse: idsParse, decoded: model.detokenize(idsParse, true)};
  });
}
const lines = Object.entries(out).map(([name, cases]) =>
  `${JSON.stringify(name)}: [\n${cases.map((one) => JSON.stringify(one)).join(",\n")}\n]`);
console.log(`{${lines.join(",\n")}}`);
process.exit(0);
