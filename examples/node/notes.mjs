// Pages that count their views, and notes on them: Node and its built-in SQLite, nothing else.

import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { DatabaseSync } from "node:sqlite";

const db = new DatabaseSync(process.env.DATABASE_PATH ?? "notes.db", { timeout: 20_000 });
db.exec(`
  CREATE TABLE IF NOT EXISTS pages (page TEXT PRIMARY KEY NOT NULL, views INTEGER NOT NULL DEFAULT 0);
  CREATE TABLE IF NOT EXISTS notes (id TEXT PRIMARY KEY NOT NULL, page TEXT NOT NULL REFERENCES pages, text TEXT NOT NULL);
`);

// A transaction that begins as a writer: it waits for others, which one that begins as a reader cannot.
function transaction(work) {
  db.exec("BEGIN IMMEDIATE");
  try {
    const result = work();
    db.exec("COMMIT");
    return result;
  } catch (error) {
    if (db.isTransaction) db.exec("ROLLBACK");
    throw error;
  }
}

const ADD = "INSERT INTO pages VALUES (?, 1) ON CONFLICT (page) DO UPDATE SET views = views + 1 RETURNING views";

function answer(method, page, what, body) {
  if (method === "GET" && !page) return [200, db.prepare("SELECT page, views FROM pages ORDER BY page").all()];
  if (method === "GET" && !what) {
    const row = db.prepare("SELECT views FROM pages WHERE page = ?").get(page);
    const notes = db.prepare("SELECT id, text FROM notes WHERE page = ? ORDER BY id").all(page);
    return row ? [200, { page, views: row.views, notes }] : [404, { error: "no such page" }];
  }
  if (method === "POST" && what === "views") {
    return [200, { page, views: transaction(() => db.prepare(ADD).get(page).views) }];
  }
  if (method === "POST" && what === "notes") {
    const id = randomUUID();
    transaction(() => {
      db.prepare("INSERT OR IGNORE INTO pages (page) VALUES (?)").run(page);
      db.prepare("INSERT INTO notes VALUES (?, ?, ?)").run(id, page, body);
    });
    return [201, { id }];
  }
  return [404, { error: "no such path" }];
}

createServer(async (request, response) => {
  let status, content;
  try {
    const body = Buffer.concat(await Array.fromAsync(request)).toString();
    const [, pages, page, what] = new URL(request.url, "http://host").pathname.split("/");
    const known = pages === "" || pages === "pages";
    [status, content] = known ? answer(request.method, page && decodeURIComponent(page), what, body) : [404, {}];
  } catch (error) {
    [status, content] = [500, { error: error.message }];
  }
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(content));
}).listen(Number(process.env.PORT ?? 8000), "127.0.0.1");
