// Run by the server's image once, when its data folder is new: the user that drivers log in as. It may read and write the database of
// the ledgers, and nothing else.
const fs = require("fs");
const read = (name) => fs.readFileSync(`/run/secrets/${name}`, "utf8").trim();

db.getSiblingDB("blockwise").createUser({
  user: read("blockwise_user"),
  pwd: read("blockwise_password"),
  roles: [{ role: "readWrite", db: "blockwise" }],
});
