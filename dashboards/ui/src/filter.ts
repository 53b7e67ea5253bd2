import type { Pod } from './types'

/**
 * Every word must be found in the pod's namespace, name, status, node or owner,
 * without regard to case. `key:value` looks at one of ns, name, status, node,
 * owner only, and a leading minus excludes.
 */
export function matches(p: Pod, text: string): boolean {
  const fields: Record<string, string> = {
    ns: p.ns,
    name: p.name,
    status: p.status,
    node: p.node ?? '',
    owner: p.owner ?? '',
  }
  for (const raw of text.toLowerCase().split(/\s+/)) {
    const not = raw.startsWith('-') && raw.length > 1
    const word = not ? raw.slice(1) : raw
    if (!word) continue
    const colon = word.indexOf(':')
    const field = colon > 0 ? fields[word.slice(0, colon)] : undefined
    const found =
      field === undefined
        ? Object.values(fields).some((v) => v.toLowerCase().includes(word))
        : field.toLowerCase().includes(word.slice(colon + 1))
    if (found === not) return false
  }
  return true
}

export type SortKey = 'name' | 'status' | 'restarts' | 'age' | 'cpu' | 'memory'

export interface Sort {
  key: SortKey
  down: boolean
}

const ranks: Record<string, number> = { error: 0, warn: 1, progress: 2, ok: 3, done: 4 }

type Measure = (p: Pod) => number | null | undefined

/** A new list in the wanted order; equal ones by namespace and name, unknown last. */
export function sorted(pods: Pod[], sort: Sort, cpu: Measure, memory: Measure): Pod[] {
  const byName = (a: Pod, b: Pod) => (a.ns === b.ns ? (a.name < b.name ? -1 : 1) : a.ns < b.ns ? -1 : 1)
  const of: Record<Exclude<SortKey, 'name'>, Measure> = {
    status: (p) => ranks[p.level],
    restarts: (p) => p.restarts,
    age: (p) => -p.created,
    cpu,
    memory,
  }
  if (sort.key === 'name') return pods.slice().sort((a, b) => (sort.down ? byName(b, a) : byName(a, b)))
  const measure = of[sort.key]
  return pods.slice().sort((a, b) => {
    const x = measure(a) ?? null
    const y = measure(b) ?? null
    if (x === y) return byName(a, b)
    if (x === null) return 1
    if (y === null) return -1
    return sort.down ? y - x : x - y
  })
}
