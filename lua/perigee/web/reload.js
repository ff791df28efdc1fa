// Loads this page again when one of its files has changed: part of every page in 'perigee dev'.
const url = `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}/-/reload`;
let wasOpen = false;

function listen() {
  const socket = new WebSocket(url);
  socket.addEventListener("open", () => {
    if (wasOpen) location.reload(); // the server was away: who knows what has changed
    wasOpen = true;
  });
  socket.addEventListener("message", (event) => {
    if (JSON.parse(event.data).method === "reload") location.reload();
  });
  socket.addEventListener("close", () => setTimeout(listen, 1000));
}

listen();
