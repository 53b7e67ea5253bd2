import type { ComponentChildren } from 'preact'
import { useRef, useState } from 'preact/hooks'
import { live } from './live'
import { spark } from './series'
import type { Level, Points, SectionName } from './types'

const levelNames: Record<Level, string> = {
  ok: 'in order',
  progress: 'in progress',
  warn: 'needs attention',
  error: 'failing',
  done: 'finished',
}

/** A mark whose shape, not only its colour, says how things are. */
export function Mark({ level }: { level: Level }) {
  const shape = {
    ok: <circle cx="6" cy="6" r="4" />,
    progress: (
      <>
        <circle cx="6" cy="6" r="4" fill="none" stroke="currentColor" stroke-width="1.5" />
        <path d="M6 2a4 4 0 0 1 0 8z" />
      </>
    ),
    warn: <path d="M6 1.2 11.4 10.6H.6z" />,
    error: <path d="M3.6.9h4.8l2.7 2.7v4.8l-2.7 2.7H3.6L.9 8.4V3.6z" />,
    done: <circle cx="6" cy="6" r="3.4" fill="none" stroke="currentColor" stroke-width="1.5" />,
  }[level]
  return (
    <svg class={`mark ${level}`} viewBox="0 0 12 12" fill="currentColor" role="img" aria-label={levelNames[level]}>
      {shape}
    </svg>
  )
}

export function Status({ level, text, title }: { level: Level; text: string; title?: string }) {
  return (
    <span class={`status ${level}`} title={title}>
      <Mark level={level} />
      <span>{text}</span>
    </span>
  )
}

interface SparkProps {
  values: Points
  /** What is drawn, for those who cannot see it. */
  label: string
  floor?: number
  width?: number
  height?: number
  kind?: string
}

export function Spark({ values, label, floor = 0, width = 100, height = 24, kind = '' }: SparkProps) {
  const { line, area } = spark(values, width, height, floor)
  return (
    <svg class={`spark ${kind}`} viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" role="img" aria-label={label}>
      <path class="base" d={`M0 ${height - 0.5}H${width}`} />
      {area && <path class="area" d={area} />}
      {line && <path class="line" d={line} />}
    </svg>
  )
}

interface MeterProps {
  value: number | null | undefined
  /** Marks on the scale; the scale reaches a little beyond the greatest. */
  ticks: { at: number | undefined; name: string }[]
  max?: number
  label: string
}

/** A straight scale with a filled part and named ticks, as on an instrument. */
export function Meter({ value, ticks, max, label }: MeterProps) {
  const set = ticks.filter((t): t is { at: number; name: string } => !!t.at)
  const end = max ?? Math.max(value ?? 0, ...set.map((t) => t.at)) * 1.08
  if (!end) return null
  const part = (n: number) => `${Math.min(100, (100 * n) / end)}%`
  const over = set.some((t) => t.name === 'limit' && (value ?? 0) > t.at * 0.9)
  return (
    <span class={`meter ${over ? 'over' : ''}`} role="img" aria-label={label} title={label}>
      <span class="fill" style={{ width: part(value ?? 0) }} />
      {set.map((t) => (
        <span key={t.name} class={`tick ${t.name}`} style={{ left: part(t.at) }} />
      ))}
    </span>
  )
}

export function Section(props: {
  id: string
  title: string
  note?: ComponentChildren
  tools?: ComponentChildren
  topic?: SectionName
  children: ComponentChildren
}) {
  const problem = props.topic && live.sections.problems?.[props.topic]
  return (
    <section id={props.id} class="panel" aria-labelledby={`${props.id}-title`}>
      <header>
        <h2 id={`${props.id}-title`} tabIndex={-1}>
          {props.title}
        </h2>
        {props.note !== undefined && <span class="note">{props.note}</span>}
        {props.tools && <div class="tools">{props.tools}</div>}
      </header>
      {problem && (
        <p class="problem" role="status">
          <Mark level="error" /> {problem}
        </p>
      )}
      {props.children}
    </section>
  )
}

export function Empty({ children }: { children: ComponentChildren }) {
  return <p class="empty">{children}</p>
}

export function Labels({ labels }: { labels: Record<string, string> | null | undefined }) {
  const list = Object.entries(labels ?? {}).sort(([a], [b]) => (a < b ? -1 : 1))
  if (list.length === 0) return null
  return (
    <ul class="labels" aria-label="Labels">
      {list.map(([k, v]) => (
        <li key={k}>
          <span>{k}</span>
          <b>{v}</b>
        </li>
      ))}
    </ul>
  )
}

/** A command to copy. */
export function Command({ text }: { text: string }) {
  const [said, say] = useState('')
  const code = useRef<HTMLElement>(null)
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text)
      say('Copied')
    } catch {
      // No clipboard without a secure context: select it for the keyboard.
      if (code.current) getSelection()?.selectAllChildren(code.current)
      say('Selected')
    }
    setTimeout(() => say(''), 1500)
  }
  return (
    <div class="command">
      <code ref={code}>{text}</code>
      <button type="button" onClick={copy} aria-label={`Copy command: ${text}`}>
        <span aria-live="polite">{said || 'Copy'}</span>
      </button>
    </div>
  )
}
