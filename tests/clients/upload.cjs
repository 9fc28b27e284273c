// Upload a file as an application would, with tus-js-client as it is: node upload.cjs ENDPOINT FILE CHUNK NAME
const fs = require("fs");
const tus = require("tus-js-client");

const [endpoint, file, chunk, name] = process.argv.slice(2);
const upload = new tus.Upload(fs.createReadStream(file), {
  endpoint,
  uploadSize: fs.statSync(file).size,
  chunkSize: chunk === "all" ? Infinity : Number(chunk),
  retryDelays: Array(50).fill(50),
  metadata: { filename: name, filetype: "audio/wav" },
  onError: (error) => {
    console.error(String(error));
    process.exit(1);
  },
  onSuccess: () => console.log(upload.url),
});
upload.start();
