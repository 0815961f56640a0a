// The peer: npm smtp-server and mysql2, one COMMIT a message.
//
//     node benchmarks/smtpserver_mysql2.cjs mysql://user:password@host:port/name
//
// Its two packages are looked up in NODE_PATH.
"use strict";

const { SMTPServer } = require("smtp-server");
const mysql = require("mysql2/promise");

const pool = mysql.createPool({ uri: process.argv[2], connectionLimit: 10 });

async function store(sender, recipients, data) {
  const connection = await pool.getConnection();
  try {
    await connection.beginTransaction();
    const [{ insertId }] = await connection.query(
      "INSERT INTO messages (sender, data) VALUES (?, ?)",
      [sender, data],
    );
    await connection.query("INSERT INTO recipients (message_id, address) VALUES ?", [
      recipients.map((recipient) => [insertId, recipient]),
    ]);
    await connection.commit();
  } catch (error) {
    await connection.rollback();
    throw error;
  } finally {
    connection.release();
  }
}

const server = new SMTPServer({
  authOptional: true,
  disableReverseLookup: true,
  disabledCommands: ["STARTTLS", "AUTH"],
  size: 1 << 26,
  onData(stream, session, done) {
    const chunks = [];
    stream.on("data", (chunk) => chunks.push(chunk));
    stream.on("error", done);
    stream.on("end", () => {
      const { mailFrom, rcptTo } = session.envelope;
      const recipients = rcptTo.map(({ address }) => address);
      store(mailFrom.address, recipients, Buffer.concat(chunks)).then(() => done(), done);
    });
  },
});
server.on("error", () => {}); // a client that hangs up is no reason to end
const listening = server.listen(0, "127.0.0.1", () => {
  console.log(`listening on ${listening.address().port}`);
});
