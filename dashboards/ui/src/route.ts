import { useLayoutEffect, useState } from 'preact/hooks'

export type Route = { view: 'home' } | { view: 'pod'; ns: string; name: string } | { view: 'trace'; id: string }

export function parse(hash: string): Route {
  const [view, a, b] = hash.replace(/^#\/?/, '').split('/').map(safeDecode)
  if (view === 'pod' && a && b) return { view: 'pod', ns: a, name: b }
  if (view === 'trace' && a && /^[0-9a-f]{1,32}$/.test(a)) return { view: 'trace', id: a }
  return { view: 'home' }
}

function safeDecode(s: string): string {
  try {
    return decodeURIComponent(s)
  } catch {
    return s
  }
}

export const podHref = (ns: string, name: string) => `#/pod/${encodeURIComponent(ns)}/${encodeURIComponent(name)}`
export const traceHref = (id: string) => `#/trace/${id}`

export function useRoute(): Route {
  const [route, set] = useState(parse(location.hash))
  useLayoutEffect(() => {
    const f = () => set(parse(location.hash))
    addEventListener('hashchange', f)
    return () => removeEventListener('hashchange', f)
  }, [])
  return route
}

export function home(): void {
  // Not a jump to the top of the page, and not an entry to go back to.
  history.replaceState(null, '', location.pathname)
  dispatchEvent(new HashChangeEvent('hashchange'))
}
