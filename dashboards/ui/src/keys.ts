/** The keys of the page. Fields and modified keys are left alone. */

export const sectionKeys = ['pods', 'workloads', 'nodes', 'api', 'scaling', 'alerts', 'traces', 'warnings', 'metrics']

function visible(e: HTMLElement): boolean {
  return e.getClientRects().length > 0
}

/** What j and k walk through: the open sheet's entries, else the page's. */
function entries(): HTMLElement[] {
  const scope = document.querySelector('dialog[open]') ?? document
  return [...scope.querySelectorAll<HTMLElement>('[data-nav]')].filter(visible)
}

function walk(by: 1 | -1): void {
  const list = entries()
  const active = document.activeElement
  const from = list.findIndex((e) => e === active)
  let to: HTMLElement | undefined
  if (from >= 0) {
    to = list[Math.min(list.length - 1, Math.max(0, from + by))]
  } else {
    // From wherever the focus is, to the next entry in the document.
    const after = active ? list.findIndex((e) => active.compareDocumentPosition(e) & Node.DOCUMENT_POSITION_FOLLOWING) : 0
    to = list[active === document.body ? 0 : by > 0 ? Math.max(0, after) : Math.max(0, (after < 0 ? list.length : after) - 1)]
  }
  to?.focus()
  to?.scrollIntoView({ block: 'nearest' })
}

export function listenForKeys(help: () => void): () => void {
  const f = (e: KeyboardEvent) => {
    if (e.ctrlKey || e.metaKey || e.altKey) return
    const on = e.target as HTMLElement
    const typing = on.matches('input:not([type=checkbox]), select, textarea')
    if (typing) {
      if (e.key === 'Escape') on.blur()
      if (e.key === 'Enter' && on.id === 'pod-filter') walk(1)
      return
    }
    const inSheet = !!document.querySelector('dialog[open]')
    if (e.key === 'j' || e.key === 'k') walk(e.key === 'j' ? 1 : -1)
    else if (inSheet) return
    else if (e.key === '/') document.getElementById('pod-filter')?.focus()
    else if (e.key === '?') help()
    else if (/^[1-9]$/.test(e.key)) {
      const title = document.getElementById(`${sectionKeys[Number(e.key) - 1]}-title`)
      title?.focus({ preventScroll: true })
      title?.closest('section')?.scrollIntoView({ block: 'start' })
    } else return
    e.preventDefault()
  }
  addEventListener('keydown', f)
  return () => removeEventListener('keydown', f)
}
