import { useState } from 'preact/hooks'
import { digits } from './format'
import { Empty, Mark, Section } from './parts'

interface Sample {
  metric: Record<string, string>
  value: [number, string]
}

interface Answer {
  status: 'success' | 'error'
  error?: string
  warnings?: string[]
  data?: { resultType: 'vector' | 'scalar' | 'string' | 'matrix'; result: unknown }
}

const examples = [
  'topk(5, sum by (namespace, pod) (rate(container_cpu_usage_seconds_total{container!=""}[1m])))',
  'histogram_quantile(0.99, sum by (le, verb) (rate(apiserver_request_duration_seconds_bucket[5m])))',
  'count by (job) (up)',
]

const most = 200

export function Explorer() {
  const [expr, setExpr] = useState('')
  const [rows, setRows] = useState<Sample[]>()
  const [note, setNote] = useState('')
  const [error, setError] = useState('')
  const run = async (text: string) => {
    if (!text.trim()) return
    setError('')
    setNote('Evaluating …')
    const begin = performance.now()
    try {
      const answer = await fetch(`/api/v1/query?${new URLSearchParams({ query: text })}`)
      const body = (await answer.json().catch(() => ({ status: 'error', error: `status ${answer.status}` }))) as Answer
      if (body.status !== 'success' || !body.data) throw new Error(body.error ?? `status ${answer.status}`)
      const list = samples(body.data)
      setRows(list)
      setNote(`${list.length} series · ${Math.round(performance.now() - begin)} ms${body.warnings?.length ? ` · ${body.warnings.join('; ')}` : ''}`)
    } catch (e) {
      setRows(undefined)
      setNote('')
      setError((e as Error).message)
    }
  }
  const names = [...new Set(rows?.flatMap((r) => Object.keys(r.metric)))].sort((a, b) => (a === '__name__' ? -1 : b === '__name__' ? 1 : a < b ? -1 : 1))
  return (
    <Section id="metrics" title="Metrics" note={note || 'PromQL'}>
      <form
        class="query"
        role="search"
        onSubmit={(e) => {
          e.preventDefault()
          void run(expr)
        }}
      >
        <input
          id="promql"
          aria-label="PromQL expression"
          placeholder="An instant query in PromQL"
          autocomplete="off"
          autocapitalize="off"
          spellcheck={false}
          value={expr}
          onInput={(e) => setExpr(e.currentTarget.value)}
        />
        <button type="submit">Run</button>
      </form>
      {!rows && !error && (
        <ul class="examples" aria-label="Examples">
          {examples.map((x) => (
            <li key={x}>
              <button
                type="button"
                class="link"
                onClick={() => {
                  setExpr(x)
                  void run(x)
                }}
              >
                {x}
              </button>
            </li>
          ))}
        </ul>
      )}
      {error && (
        <p class="problem" role="alert">
          <Mark level="error" /> {error}
        </p>
      )}
      {rows?.length === 0 && <Empty>No series match.</Empty>}
      {!!rows?.length && (
        <div class="scroll" tabIndex={0} role="region" aria-label="Result">
          <table class="result">
            <thead>
              <tr>
                {names.map((n) => (
                  <th key={n} scope="col">
                    {n === '__name__' ? 'metric' : n}
                  </th>
                ))}
                <th scope="col" class="num">
                  Value
                </th>
              </tr>
            </thead>
            <tbody>
              {rows.slice(0, most).map((r, i) => (
                <tr key={i}>
                  {names.map((n) => (
                    <td key={n}>{r.metric[n]}</td>
                  ))}
                  <td class="num" title={r.value[1]}>
                    {shown(r.value[1])}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {rows && rows.length > most && <p class="more dim">The first {most} are shown.</p>}
      <p class="apis dim">
        The same data: <a href="/api/v1/query?query=up">/api/v1</a> (Prometheus), <a href="/alertmanager/api/v2/alerts">/alertmanager/api/v2</a>,{' '}
        <a href="/jaeger/api/services">/jaeger/api</a>, <a href="/metrics">/metrics</a>. Grafana takes each as a data source.
      </p>
    </Section>
  )
}

function shown(text: string): string {
  const n = Number(text)
  if (!Number.isFinite(n)) return text
  return Math.abs(n) >= 1e15 || (n !== 0 && Math.abs(n) < 1e-5) ? n.toExponential(3) : Number.isInteger(n) ? text : digits(n)
}

function samples(data: NonNullable<Answer['data']>): Sample[] {
  switch (data.resultType) {
    case 'vector':
      return data.result as Sample[]
    case 'scalar':
    case 'string':
      return [{ metric: {}, value: data.result as [number, string] }]
    default:
      throw new Error('This is a range of values; an instant query shows one value for each series.')
  }
}
