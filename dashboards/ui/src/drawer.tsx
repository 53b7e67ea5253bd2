import type { ComponentChildren } from 'preact'
import { useLayoutEffect, useRef } from 'preact/hooks'
import { home } from './route'

/** What had the focus before a sheet was opened; sheets may follow each other. */
let opener: Element | null = null

/** A modal sheet. The browser's dialog keeps the focus; closing gives it back. */
export function Drawer(props: { kind: string; title: string; over: ComponentChildren; children: ComponentChildren }) {
  const dialog = useRef<HTMLDialogElement>(null)
  useLayoutEffect(() => {
    const d = dialog.current
    if (!document.activeElement?.closest('dialog') && document.activeElement !== document.body) opener = document.activeElement
    if (d && !d.open) d.showModal()
    return () => {
      d?.close()
      if (opener instanceof HTMLElement && !document.querySelector('dialog[open]')) opener.focus()
    }
  }, [])
  return (
    <dialog
      ref={dialog}
      class={`drawer ${props.kind}`}
      aria-labelledby="drawer-title"
      onCancel={(e) => {
        e.preventDefault()
        home()
      }}
      onClick={(e) => e.target === dialog.current && home()}
    >
      <div class="sheet">
        <header>
          <div>
            <span class="dim over">{props.over}</span>
            <h2 id="drawer-title">{props.title}</h2>
          </div>
          <button type="button" class="close" aria-label="Close" title="Close (Esc)" onClick={home}>
            <svg viewBox="0 0 12 12" aria-hidden="true">
              <path d="M2 2l8 8M10 2l-8 8" fill="none" stroke="currentColor" stroke-width="1.6" />
            </svg>
          </button>
        </header>
        <div class="sheet-body">{props.children}</div>
      </div>
    </dialog>
  )
}
