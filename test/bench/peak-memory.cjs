// Loaded before a program: writes its peak memory, in kilobytes, to the file that PEAK_MEMORY_FILE names, as it ends.
const fs = require("node:fs")

process.on("exit", () => {
  // VmHWM belongs to this program alone; ru_maxrss also remembers the process that started it.
  const status = fs.existsSync("/proc/self/status") ? fs.readFileSync("/proc/self/status", "utf8") : ""
  const peak = /^VmHWM:\s*(\d+) kB/m.exec(status)?.[1] ?? String(process.resourceUsage().maxRSS)
  fs.writeFileSync(process.env.PEAK_MEMORY_FILE, peak)
})
