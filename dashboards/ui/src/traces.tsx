import { useEffect, useState } from 'preact/hooks'
import { clock, duration, plural } from './format'
import { live, useNow, useTopics } from './live'
import { Drawer } from './drawer'
import { Empty, Mark, Section } from './parts'
import { traceHref } from './route'
import type { TraceDetail } from './types'
import { layout, type Row } from './waterfall'

export function Traces() {
  useTopics('traces', 'problems')
  const now = useNow()
  const [every, setEvery] = useState(false)
  const { traces } = live.sections
  const list = every ? traces?.all : traces?.notable
  const longest = Math.max(1, ...(list ?? []).map((t) => t.duration))
  return (
    <Section
      id="traces"
      title="Traces"
      topic="traces"
      note="latest"
      tools={
        <label class="check">
          <input type="checkbox" checked={every} onChange={(e) => setEvery(e.currentTarget.checked)} /> Short ones too
        </label>
      }
    >
      {list?.length === 0 && <Empty>No traces are kept yet. Every change of an object makes one.</Empty>}
      <ul class="traces">
        {list?.slice(0, 14).map((t) => (
          <li key={t.id} data-trace={t.id}>
            <a href={traceHref(t.id)} data-nav>
              <Mark level={t.errors ? 'error' : 'ok'} />
              <span class="trace-name">
                <b>{t.name}</b>
                <span class="dim">{t.services.join(' · ')}</span>
              </span>
              <span class="trace-length">
                <span class="num">{duration(t.duration)}</span>
                <span class="bar" aria-hidden="true">
                  {/* A root keeps both a millisecond and minutes visible. */}
                  <span class="fill" style={{ width: `${Math.max(2, 100 * Math.sqrt(t.duration / longest))}%` }} />
                </span>
              </span>
              <span class="dim num trace-when">
                {clock(t.start, now)}
                <span>{plural(t.spans, 'span')}</span>
              </span>
            </a>
          </li>
        ))}
      </ul>
    </Section>
  )
}

export function TraceDrawer({ id }: { id: string }) {
  const [trace, setTrace] = useState<TraceDetail>()
  const [error, setError] = useState('')
  useEffect(() => {
    const stop = new AbortController()
    const load = async () => {
      try {
        const answer = await fetch(`/ui/api/traces/${id}`, { signal: stop.signal })
        const body = (await answer.json()) as TraceDetail & { error?: string }
        if (!answer.ok) throw new Error(body.error)
        setTrace(body)
        setError('')
      } catch (e) {
        if (!stop.signal.aborted) setError(`The trace cannot be shown: ${(e as Error).message}`)
      }
    }
    void load()
    return () => stop.abort()
  }, [id])
  const root = trace?.spans.find((s) => !s.parent) ?? trace?.spans[0]
  return (
    <Drawer kind="trace" title={root?.name ?? 'Trace'} over={`Trace ${id}`}>
      {error && (
        <p class="problem" role="alert">
          <Mark level="error" /> {error}
        </p>
      )}
      {trace && <Waterfall trace={trace} />}
    </Drawer>
  )
}

function Waterfall({ trace }: { trace: TraceDetail }) {
  const [open, setOpen] = useState('')
  const w = layout(trace.spans)
  const at = (share: number) => `${100 * share}%`
  return (
    <>
      <p class="facts">
        <span>
          <b>{duration(w.length)}</b> from {clock(trace.start)}
        </span>
        <span>{plural(w.rows.length, 'span')}</span>
        {w.breaks.length > 0 && (
          <span class="break-note">
            <i /> {duration(w.breaks.reduce((sum, b) => sum + b.us, 0))} without spans, shortened
          </span>
        )}
        {w.services.map((s, i) => (
          <span key={s} class={`service s${i % 8}`}>
            <i />
            {s}
          </span>
        ))}
      </p>
      <div class="waterfall" role="list" aria-label="Spans in order">
        <div class="axis" aria-hidden="true">
          {w.ticks.map((t) => (
            <span key={t.us} style={{ left: at(t.at) }}>
              {t.us ? duration(t.us) : '0'}
            </span>
          ))}
        </div>
        {w.breaks.length > 0 && (
          <div class="breaks" aria-hidden="true">
            {w.breaks.map((b) => (
              <span key={b.left} style={{ left: at(b.left), width: at(b.width) }} />
            ))}
          </div>
        )}
        {w.rows.map((r) => (
          <SpanRow key={r.span.id} row={r} open={open === r.span.id} toggle={() => setOpen(open === r.span.id ? '' : r.span.id)} />
        ))}
      </div>
    </>
  )
}

function SpanRow({ row: r, open, toggle }: { row: Row; open: boolean; toggle: () => void }) {
  const s = r.span
  // The label stands where there is room for it.
  const side = r.left + r.width > 0.8 ? (r.left > 0.25 ? 'before' : 'inside') : 'after'
  return (
    <div role="listitem" class={`span s${r.service % 8} ${s.error ? 'failed' : ''} ${open ? 'open' : ''}`}>
      <button type="button" class="span-row" data-nav aria-expanded={open} onClick={toggle}>
        <span class="span-name" style={{ paddingLeft: `${Math.min(r.depth, 12) * 12}px` }}>
          {s.error && <Mark level="error" />}
          <span>
            {s.name}
            <span class="dim"> {s.service}</span>
          </span>
        </span>
        <span class="span-track">
          <span class="span-bar" style={{ left: `${100 * r.left}%`, width: `${100 * r.width}%` }} />
          <span
            class={`span-time ${side}`}
            style={side === 'before' ? { right: `${100 * (1 - r.left)}%` } : side === 'inside' ? { left: `${100 * r.left}%` } : { left: `${100 * (r.left + r.width)}%` }}
          >
            {duration(s.duration)}
          </span>
        </span>
      </button>
      {open && (
        <dl class="attrs">
          {s.message && (
            <div>
              <dt>error</dt>
              <dd class="error">{s.message}</dd>
            </div>
          )}
          {r.orphan && (
            <div>
              <dt>parent</dt>
              <dd>{s.parent} (not stored)</dd>
            </div>
          )}
          {s.kind && (
            <div>
              <dt>kind</dt>
              <dd>{s.kind}</dd>
            </div>
          )}
          {s.attrs.map(([k, v]) => (
            <div key={k}>
              <dt>{k}</dt>
              <dd>{v}</dd>
            </div>
          ))}
          {s.events.map((e, i) => (
            <div key={`e${i}`}>
              <dt>+{duration(e.at - s.start)}</dt>
              <dd>
                {e.name} {e.attrs.map(([k, v]) => `${k}=${v}`).join(' ')}
              </dd>
            </div>
          ))}
        </dl>
      )}
    </div>
  )
}
