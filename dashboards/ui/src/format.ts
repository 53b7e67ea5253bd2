// Numbers as an operator reads them. Unknown values are an en dash.

export const unknown = '–'

type Maybe = number | null | undefined

const missing = (n: Maybe): n is null | undefined => n === null || n === undefined || !Number.isFinite(n)

/** Three significant digits, no trailing zeros, no exponent. */
export function digits(n: number): string {
  if (n === 0) return '0'
  const size = Math.floor(Math.log10(Math.abs(n)))
  const text = n.toFixed(Math.min(6, Math.max(0, 2 - size)))
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text
}

/** Cores: thousandths below one, as Kubernetes writes them. */
export function cores(n: Maybe): string {
  if (missing(n)) return unknown
  const milli = n * 1000
  if (Math.abs(milli) < 0.05) return '0'
  if (milli < 9.95) return `${milli.toFixed(1).replace(/\.0$/, '')}m`
  if (milli < 999.5) return `${Math.round(milli)}m`
  return digits(n)
}

const binary = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']

export function bytes(n: Maybe): string {
  if (missing(n)) return unknown
  let unit = 0
  // 1023.5 would be shown as 1024 of the smaller unit.
  while (Math.abs(n) >= 999.5 && unit < binary.length - 1) {
    n /= 1024
    unit++
  }
  return `${digits(n)} ${binary[unit]}`
}

export function percent(part: Maybe, whole: Maybe): string {
  if (missing(part) || missing(whole) || whole <= 0) return unknown
  const p = (100 * part) / whole
  return p > 0 && p < 0.95 ? `${p.toFixed(1)} %` : `${Math.round(p)} %`
}

/** Counts and rates with k, M, G. */
export function count(n: Maybe): string {
  if (missing(n)) return unknown
  const units = ['', 'k', 'M', 'G', 'T']
  let unit = 0
  while (Math.abs(n) >= 999.5 && unit < units.length - 1) {
    n /= 1000
    unit++
  }
  return digits(n) + units[unit]
}

export function amount(n: Maybe, unit: string): string {
  if (missing(n)) return unknown
  switch (unit) {
    case 'percent':
      return `${digits(n)} %`
    case 'cores':
      return cores(n)
    case 'bytes':
      return bytes(n)
    default:
      return count(n)
  }
}

/** Age in one or two units, the way kubectl shows it. */
export function age(ms: Maybe): string {
  if (missing(ms)) return unknown
  const s = Math.max(0, Math.floor(ms / 1000))
  const two = (big: number, b: string, small: number, sm: string) => (small ? `${big}${b}${small}${sm}` : `${big}${b}`)
  if (s < 120) return `${s}s`
  const m = Math.floor(s / 60)
  if (m < 10) return two(m, 'm', s % 60, 's')
  if (m < 180) return `${m}m`
  const h = Math.floor(m / 60)
  if (h < 8) return two(h, 'h', m % 60, 'm')
  if (h < 48) return `${h}h`
  const d = Math.floor(h / 24)
  if (d < 8) return two(d, 'd', h % 24, 'h')
  return `${d}d`
}

/** A span's length, given in microseconds. */
export function duration(us: Maybe): string {
  if (missing(us)) return unknown
  if (us < 999.5) return `${Math.round(us)} µs`
  if (us < 999_500) return `${digits(us / 1000)} ms`
  if (us < 119_500_000) return `${digits(us / 1_000_000)} s`
  return age(us / 1000)
}

/** Time of day; with the day when it is not today's. */
export function clock(ms: number, now: number = Date.now()): string {
  const t = new Date(ms)
  const two = (n: number) => String(n).padStart(2, '0')
  const time = `${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`
  if (new Date(now).toDateString() === t.toDateString()) return time
  return `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())} ${time}`
}

export function plural(n: number, one: string, many = `${one}s`): string {
  return `${n} ${n === 1 ? one : many}`
}
