import { useMemo, useState } from 'preact/hooks'
import { matches, sorted, type Sort, type SortKey } from './filter'
import { age, bytes, cores, unknown } from './format'
import { live, useNow, useTopics } from './live'
import { Empty, Meter, Section, Spark, Status } from './parts'
import { podHref } from './route'
import type { Pod } from './types'

const most = 250 // rows drawn at once

export function Pods() {
  useTopics('pods', 'usage', 'problems')
  const now = useNow()
  const [text, setText] = useState('')
  const [ns, setNs] = useState('')
  const [unwell, setUnwell] = useState(false)
  const [all, setAll] = useState(false)
  const [sort, setSort] = useState<Sort>({ key: 'name', down: false })
  const { pods, usage } = live.sections
  const key = (p: Pod) => `${p.ns}/${p.name}`
  const namespaces = useMemo(() => [...new Set(pods?.map((p) => p.ns))].sort(), [pods])
  const found = (pods ?? []).filter(
    (p) => (!ns || p.ns === ns) && (!unwell || (p.level !== 'ok' && p.level !== 'done')) && matches(p, text),
  )
  const list = sorted(found, sort, (p) => usage?.pods[key(p)]?.cpu, (p) => usage?.pods[key(p)]?.memory)
  const shown = all ? list : list.slice(0, most)

  const head = (k: SortKey, name: string, cls = '') => (
    <th scope="col" class={cls} aria-sort={sort.key === k ? (sort.down ? 'descending' : 'ascending') : 'none'}>
      <button type="button" onClick={() => setSort({ key: k, down: sort.key === k ? !sort.down : k === 'cpu' || k === 'memory' || k === 'restarts' })}>
        {name}
        <span class="arrow" aria-hidden="true">
          {sort.key === k ? (sort.down ? '↓' : '↑') : ''}
        </span>
      </button>
    </th>
  )
  return (
    <Section
      id="pods"
      title="Pods"
      topic="pods"
      note={pods && (found.length === pods.length ? pods.length : `${found.length} of ${pods.length}`)}
      tools={
        <>
          <label class="check">
            <input type="checkbox" checked={unwell} onChange={(e) => setUnwell(e.currentTarget.checked)} /> Not healthy
          </label>
          <select aria-label="Namespace" value={ns} onChange={(e) => setNs(e.currentTarget.value)}>
            <option value="">All namespaces</option>
            {namespaces.map((n) => (
              <option key={n}>{n}</option>
            ))}
          </select>
          <input
            id="pod-filter"
            type="search"
            placeholder="Filter  /"
            aria-label="Filter pods by name, status, node or owner; a leading minus excludes"
            title="Words must all match. ns:, name:, status:, node: and owner: look at one field; a leading minus excludes."
            autocomplete="off"
            spellcheck={false}
            value={text}
            onInput={(e) => setText(e.currentTarget.value)}
          />
        </>
      }
    >
      <table class="pods">
        <thead>
          <tr>
            {head('name', 'Pod')}
            {head('status', 'Status')}
            <th scope="col" class="num">
              Ready
            </th>
            {head('restarts', 'Restarts', 'num')}
            {head('age', 'Age', 'num')}
            {head('cpu', 'CPU')}
            {head('memory', 'Memory')}
          </tr>
        </thead>
        <tbody>
          {shown.map((p) => (
            <Row key={p.uid} pod={p} now={now} />
          ))}
        </tbody>
      </table>
      {pods?.length === 0 && <Empty>There are no pods yet. They appear here the moment they are created.</Empty>}
      {!!pods?.length && found.length === 0 && (
        <Empty>
          No pod matches.{' '}
          <button type="button" class="link" onClick={() => (setText(''), setNs(''), setUnwell(false))}>
            Clear the filter
          </button>
        </Empty>
      )}
      {list.length > shown.length && (
        <p class="more">
          <button type="button" class="link" onClick={() => setAll(true)}>
            Show all {list.length} pods
          </button>
        </p>
      )}
    </Section>
  )
}

function Row({ pod: p, now }: { pod: Pod; now: number }) {
  const key = `${p.ns}/${p.name}`
  const use = live.sections.usage?.pods[key]
  const several = (live.sections.nodes?.length ?? 0) > 1
  return (
    <tr data-pod={key} class={p.level}>
      <td class="name">
        <a href={podHref(p.ns, p.name)} data-nav>
          <b>{p.name}</b>
        </a>
        <span class="owner" title={[p.ns, p.owner, p.node].filter(Boolean).join(' · ')}>
          {[p.ns, p.owner, p.node ? several && p.node : 'on no node yet'].filter(Boolean).join(' · ')}
        </span>
      </td>
      <td class="state">
        <Status level={p.level} text={p.status} />
        {p.message && (
          <span class="why" title={p.message}>
            {p.message}
          </span>
        )}
      </td>
      <td class="num ready" data-label="ready">
        {p.ready}/{p.total}
      </td>
      <td class={`num restarts ${p.restarts ? 'some' : ''}`} data-label="restarts">
        {p.restarts}
      </td>
      <td class="num age" data-label="age">
        {p.created ? age(now - p.created) : unknown}
      </td>
      <td class="use cpu">
        <Spark kind="cpu" values={live.values(`pod/${key}/cpu`)} floor={(p.cpuRequest ?? 0) * 0.2} label={`CPU of ${p.name}`} />
        <span class="num">{cores(use?.cpu)}</span>
        <Meter
          value={use?.cpu}
          ticks={[
            { at: p.cpuRequest, name: 'request' },
            { at: p.cpuLimit, name: 'limit' },
          ]}
          label={`${cores(use?.cpu)} used, request ${p.cpuRequest ? cores(p.cpuRequest) : 'none'}, limit ${p.cpuLimit ? cores(p.cpuLimit) : 'none'}`}
        />
      </td>
      <td class="use memory">
        <Spark kind="memory" values={live.values(`pod/${key}/memory`)} floor={(p.memoryRequest ?? 0) * 0.2} label={`Memory of ${p.name}`} />
        <span class="num">{bytes(use?.memory)}</span>
        <Meter
          value={use?.memory}
          ticks={[
            { at: p.memoryRequest, name: 'request' },
            { at: p.memoryLimit, name: 'limit' },
          ]}
          label={`${bytes(use?.memory)} used, request ${p.memoryRequest ? bytes(p.memoryRequest) : 'none'}, limit ${p.memoryLimit ? bytes(p.memoryLimit) : 'none'}`}
        />
      </td>
    </tr>
  )
}
