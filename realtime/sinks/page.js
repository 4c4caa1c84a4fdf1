"use strict"

const $ = id => document.getElementById(id)
const canvas = $("canvas"), frame = $("frame"), slider = $("strength"), help = $("help")
const paper = canvas.getContext("2d", { alpha: false })
const number = new Intl.NumberFormat("en")

const SILENT_MS = 15000 // the server says something each second, but behind pictures on a slow network

let socket, tries = 0, owed = 0, heardAt = 0, cards = [], status = {}, sliderHeldUntil = 0, figuresDue = 0

function send(message) {
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message))
}

function press(key) {
  if (key.toLowerCase() === "h" || key === "?") help.open ? help.close() : help.showModal()
  else if (key.toLowerCase() === "f") document.fullscreenElement ? document.exitFullscreen() : frame.requestFullscreen?.()
  else send({ key })
}

// Connection: one WebSocket; it comes back by itself.

function connect() {
  socket = new WebSocket(new URL("socket" + location.search, location.href).href.replace(/^http/, "ws"))
  let drawn = 0, came = 0
  heardAt = performance.now()
  socket.onopen = () => {
    tries = owed = 0
    $("absent").hidden = true
    frame.classList.remove("away")
  }
  socket.onmessage = async ({ data }) => {
    heardAt = performance.now()
    if (typeof data === "string") return hear(JSON.parse(data))
    const turn = ++came
    const picture = await createImageBitmap(data).catch(() => null)
    if (picture && turn > drawn) {
      drawn = turn
      draw(picture)
    }
    if (picture) picture.close()
    owed += 1
    acknowledge()
  }
  socket.onclose = lose
}

async function lose() {
  socket.onclose = socket.onmessage = socket.onopen = null
  heardAt = Infinity
  frame.classList.add("away")
  const reason = await whyNot()
  $("absent").textContent = reason
  $("absent").hidden = false
  setTimeout(connect, Math.min(4000, 500 * ++tries))
}

// A network that falls silent closes nothing.
setInterval(() => {
  if (performance.now() - heardAt < SILENT_MS) return
  socket.close()
  lose()
}, 1000)

// A picture that was shown is answered; a page that nobody sees answers later, and gets none meanwhile.
function acknowledge() {
  if (document.hidden) return
  for (; owed > 0; owed--) send({ shown: true })
}

async function whyNot() {
  try {
    const { status } = await fetch("socket" + location.search, { signal: AbortSignal.timeout(3000) })
    if (status === 503) return "Others are looking on already, as many as may. This page waits for one to leave."
    if (status === 403) return "This address is of an earlier run: open the one that nst-cam printed now."
  } catch {}
  return "nst-cam has ended or cannot be reached. This page goes on when it is back."
}

// The picture.

function draw(picture) {
  if (canvas.width !== picture.width || canvas.height !== picture.height) {
    canvas.width = picture.width
    canvas.height = picture.height
    frame.style.setProperty("--shape", picture.width / picture.height)
  }
  paper.drawImage(picture, 0, 0)
}

// What the server says.

function hear(message) {
  if (message.cards) {
    cards = message.cards
    showCards()
  }
  if (message.status) {
    status = message.status
    showStatus()
  }
  showLabel()
}

function showCards() {
  const list = $("cards")
  while (list.children.length > cards.length) list.lastChild.remove()
  cards.forEach((card, i) => {
    const item = list.children[i] || list.appendChild(newCard(i + 1))
    const button = item.firstChild, picture = button.firstChild
    button.querySelector(".name span").textContent = card.name
    button.disabled = card.fault !== ""
    button.title = card.fault || [card.title, card.artist].filter(Boolean).join(", ")
    if (item.dataset.thumbnail !== String(card.thumbnail)) {
      item.dataset.thumbnail = card.thumbnail
      picture.replaceWith(newThumbnail(card.thumbnail))
    }
  })
}

function newCard(style) {
  const item = document.createElement("li"), button = document.createElement("button")
  const name = document.createElement("span")
  button.type = "button"
  button.className = "card"
  name.className = "name"
  name.append(document.createElement("span"))
  if (style <= 10) name.append(Object.assign(document.createElement("kbd"), { textContent: style % 10 }))
  button.append(newThumbnail(0), name)
  button.onclick = () => send({ style })
  item.append(button)
  return item
}

function newThumbnail(number) {
  if (number) return Object.assign(document.createElement("img"), { alt: "", src: `cards/${number}` })
  return Object.assign(document.createElement("span"), { className: "blank" })
}

function showLabel() {
  const mixed = [status.style, status.second].map(style => cards[style - 1]).filter(Boolean)
  if (!mixed.length) return
  const title = mixed.map(card => card.title || card.name).join(" and ")
  if ($("title").textContent !== title) {
    $("title").textContent = title
    $("artist").textContent = mixed.map(card => card.artist).filter(Boolean).join(" and ")
    document.title = `${title} – nst`
    canvas.setAttribute("aria-label", `The live picture, painted in the style of ${title}`)
  }
  for (const [i, item] of [...$("cards").children].entries()) {
    const chosen = i + 1 === status.style || i + 1 === status.second, button = item.firstChild
    if (i + 1 === status.style && button.ariaPressed !== "true") showWhole(item)
    button.setAttribute("aria-pressed", chosen)
  }
}

// Scrolls the strip alone: scrollIntoView would move the page too.
function showWhole(item) {
  const list = $("cards"), { left, right } = item.getBoundingClientRect(), strip = list.getBoundingClientRect()
  if (left < strip.left) list.scrollLeft -= strip.left - left + 20
  if (right > strip.right) list.scrollLeft += right - strip.right + 20
}

function showStatus() {
  if (performance.now() > sliderHeldUntil) setSlider(status.strength)
  for (const button of document.querySelectorAll("[data-state]")) {
    button.setAttribute(button.role === "switch" ? "aria-checked" : "aria-pressed", Boolean(status[button.dataset.state]))
  }
  const recording = status.recording_s !== null
  $("record").setAttribute("aria-pressed", recording)
  $("record-label").textContent = recording ? `Stop ${clock(status.recording_s)}` : "Record"
  $("pause").textContent = status.paused ? "Go on" : "Pause"
  frame.classList.toggle("paused-now", status.paused)
  frame.classList.toggle("split", status.split)
  showNotice()
  $("figures").hidden = !status.figures_shown
  if (performance.now() > figuresDue) {
    figuresDue = performance.now() + 450
    showFigures()
  }
}

function clock(seconds) {
  return `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`
}

function showNotice() {
  const saved = status.snapshot && status.notice.includes(status.snapshot)
  const text = saved ? `Saved ${status.snapshot}` : status.notice
  $("toast").hidden = !text
  if ($("notice").textContent !== text) $("notice").textContent = text
  $("open").hidden = !saved
  if (saved) $("open").href = `snapshots/${encodeURIComponent(status.snapshot)}`
}

function showFigures() {
  const [width, height] = status.size_wh
  $("fps").textContent = `${status.fps.toFixed(0)} fps`
  $("latency").textContent = `${status.latency_ms.toFixed(0)} ms`
  $("latency").title = `95 of 100 within ${status.latency_p95_ms.toFixed(0)} ms`
  $("painted").textContent = number.format(status.stylized)
  $("dropped").textContent = number.format(Math.max(0, status.read - status.stylized))
  $("size").textContent = `${width}×${height}`
  $("source").textContent = $("source").title = status.source
}

// What the user does.

function setSlider(percent) {
  slider.value = percent
  slider.style.setProperty("--at", `${percent}%`)
  $("percent").textContent = `${percent}%`
}

slider.addEventListener("input", () => {
  sliderHeldUntil = performance.now() + 600
  setSlider(slider.valueAsNumber)
  send({ strength: slider.valueAsNumber })
})
for (const button of document.querySelectorAll("[data-key]")) {
  button.addEventListener("click", () => press(button.dataset.key))
}
$("help-button").addEventListener("click", () => press("h"))

addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return
  const { key, target } = event
  if (key === "Escape") return // closes the help and full screen by itself, and must not end the app for all viewers
  if (target === slider && /^(Arrow|Page|Home|End)/.test(key)) return
  if (target.closest("button, a") && (key === " " || key === "Enter")) return
  if (event.repeat && !"+=-".includes(key)) return
  if ([" ", "ArrowLeft", "ArrowRight"].includes(key)) event.preventDefault()
  press(key)
})
document.addEventListener("visibilitychange", acknowledge)

connect()
