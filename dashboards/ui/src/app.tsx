import { useLayoutEffect, useRef, useState } from 'preact/hooks'
import { Alerts } from './alerts'
import { API } from './api'
import { Warnings } from './events'
import { listenForKeys, sectionKeys } from './keys'
import { live, useNow, useTopics } from './live'
import { Nodes } from './nodes'
import { Overview } from './overview'
import { Mark } from './parts'
import { PodDrawer } from './pod'
import { Pods } from './pods'
import { Explorer } from './query'
import { useRoute } from './route'
import { Scaling } from './scaling'
import { TraceDrawer, Traces } from './traces'
import { Workloads } from './workloads'

export function App() {
  const route = useRoute()
  const [help, setHelp] = useState(false)
  useLayoutEffect(() => listenForKeys(() => setHelp(true)), [])
  return (
    <>
      <a class="skip" href="#main" onClick={(e) => (e.preventDefault(), document.getElementById('main')?.focus())}>
        Skip to contents
      </a>
      <Bar help={() => setHelp(true)} />
      <Banner />
      <main id="main" tabIndex={-1}>
        <Overview />
        <div class="board">
          <div class="column wide">
            <Pods />
            <Workloads />
            <Nodes />
            <API />
          </div>
          <div class="column">
            <Scaling />
            <Alerts />
            <Traces />
            <Warnings />
          </div>
        </div>
        <Explorer />
      </main>
      {route.view === 'pod' && <PodDrawer key={`${route.ns}/${route.name}`} ns={route.ns} name={route.name} />}
      {route.view === 'trace' && <TraceDrawer key={route.id} id={route.id} />}
      {help && <Help close={() => setHelp(false)} />}
    </>
  )
}

const titles: Record<string, string> = {
  pods: 'Pods',
  workloads: 'Deployments',
  nodes: 'Nodes',
  api: 'API',
  scaling: 'Autoscaling',
  alerts: 'Alerts',
  traces: 'Traces',
  warnings: 'Warnings',
  metrics: 'Metrics',
}

function Bar({ help }: { help: () => void }) {
  useTopics('link', 'usage')
  const link = live.link
  return (
    <header class="bar">
      <h1>
        <svg viewBox="0 0 24 24" aria-hidden="true">
          <circle cx="12" cy="12" r="10.2" />
          <path class="ticks" d="M12 1.8v2.6M12 19.6v2.6M1.8 12h2.6M19.6 12h2.6" />
          <path class="north" d="M12 4.8 14.3 12H9.7z" />
          <path class="south" d="M12 19.2 9.7 12h4.6z" />
        </svg>
        Binnacle
      </h1>
      <nav aria-label="Sections">
        {sectionKeys.map((k) => (
          <a
            key={k}
            href={`#${k}`}
            onClick={(e) => {
              e.preventDefault()
              document.getElementById(k)?.scrollIntoView({ block: 'start' })
              document.getElementById(`${k}-title`)?.focus({ preventScroll: true })
            }}
          >
            {titles[k]}
          </a>
        ))}
      </nav>
      <span class={`link-state ${link}`} id="link" role="status">
        <i />
        {{ connecting: 'Connecting', live: 'Live', lost: 'Lost' }[link]}
      </span>
      <ThemeButton />
      <button type="button" class="icon" aria-label="Keys" title="Keys (?)" onClick={help}>
        ?
      </button>
    </header>
  )
}

type Theme = 'system' | 'light' | 'dark'

function ThemeButton() {
  const [theme, set] = useState<Theme>((document.documentElement.dataset.theme as Theme | undefined) ?? 'system')
  const next: Theme = { system: 'dark', dark: 'light', light: 'system' }[theme] as Theme
  const change = () => {
    set(next)
    if (next === 'system') delete document.documentElement.dataset.theme
    else document.documentElement.dataset.theme = next
    try {
      if (next === 'system') localStorage.removeItem('theme')
      else localStorage.setItem('theme', next)
    } catch {
      // Storage is forbidden: the choice lasts as long as the page.
    }
  }
  return (
    <button type="button" class="icon" id="theme" aria-label={`Theme: ${theme}. Change to ${next}`} title={`Theme: ${theme}`} onClick={change}>
      <svg viewBox="0 0 16 16" aria-hidden="true">
        <circle cx="8" cy="8" r="5.6" fill="none" stroke="currentColor" stroke-width="1.4" />
        {theme === 'system' && <path d="M8 2.4a5.6 5.6 0 0 1 0 11.2z" fill="currentColor" />}
        {theme === 'dark' && <circle cx="8" cy="8" r="5.6" fill="currentColor" />}
        {theme === 'light' && <circle cx="8" cy="8" r="2" fill="currentColor" />}
      </svg>
    </button>
  )
}

/** Says that what is shown is old, and since when. */
function Banner() {
  useTopics('link')
  const now = useNow()
  if (live.link !== 'lost') return null
  const since = live.heard ? `The figures are ${Math.max(0, Math.round((now - live.heard) / 1000))} s old.` : 'Nothing has been received yet.'
  return (
    <div class="banner" role="alert">
      <Mark level="error" />
      <span>The connection to Binnacle is lost. {since} Trying again.</span>
      <button type="button" onClick={() => live.reopen()}>
        Try now
      </button>
    </div>
  )
}

function Help({ close }: { close: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null)
  useLayoutEffect(() => dialog.current?.showModal(), [])
  const keys: [string, string][] = [
    ['/', 'Filter pods'],
    ['j  k', 'Next, previous entry'],
    ['Enter', 'Open it'],
    ['Esc', 'Close, leave a field'],
    ['1 … 9', 'Go to a section'],
    ['?', 'These keys'],
  ]
  return (
    <dialog ref={dialog} class="help" aria-labelledby="help-title" onClose={close} onClick={(e) => e.target === dialog.current && e.currentTarget.close()}>
      <h2 id="help-title">Keys</h2>
      <dl>
        {keys.map(([k, what]) => (
          <div key={k}>
            <dt>
              <kbd>{k}</kbd>
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <form method="dialog">
        <button type="submit">Close</button>
      </form>
    </dialog>
  )
}
