import { age, bytes, cores, percent } from './format'
import { live, useNow, useTopics } from './live'
import { Empty, Meter, Section, Spark, Status } from './parts'

export function Nodes() {
  useTopics('nodes', 'usage', 'problems')
  const now = useNow()
  const { nodes, usage } = live.sections
  return (
    <Section id="nodes" title="Nodes" topic="nodes" note={nodes?.length}>
      {nodes?.length === 0 && <Empty>No node has joined this cluster.</Empty>}
      <ul class="nodes">
        {nodes?.map((n) => {
          const use = usage?.nodes[n.name]
          return (
            <li key={n.name} class="node" data-node={n.name}>
              <div class="node-name">
                <b>{n.name}</b>
                <Status level={n.level} text={n.status} />
                <span class="dim">{[...n.roles, n.address].filter(Boolean).join(' · ')}</span>
              </div>
              {n.message && <p class={`message ${n.level}`}>{n.message}</p>}
              <div class="gauge">
                <span class="dim">CPU</span>
                <Spark kind="cpu" values={live.values(`node/${n.name}/cpu`)} floor={n.cpu * 0.1} label={`CPU of ${n.name}`} />
                <span class="num">{cores(use?.cpu)}</span>
                <Meter value={use?.cpu} max={n.cpu} ticks={[{ at: n.cpuAsked, name: 'request' }]} label={`${cores(use?.cpu)} used, ${cores(n.cpuAsked)} requested of ${cores(n.cpu)} cores`} />
                <span class="dim num">{percent(use?.cpu, n.cpu)}</span>
              </div>
              <div class="gauge">
                <span class="dim">Memory</span>
                <Spark kind="memory" values={live.values(`node/${n.name}/memory`)} floor={n.memory * 0.1} label={`Memory of ${n.name}`} />
                <span class="num">{bytes(use?.memory)}</span>
                <Meter value={use?.memory} max={n.memory} ticks={[{ at: n.memoryAsked, name: 'request' }]} label={`${bytes(use?.memory)} used, ${bytes(n.memoryAsked)} requested of ${bytes(n.memory)}`} />
                <span class="dim num">{percent(use?.memory, n.memory)}</span>
              </div>
              <p class="dim node-facts">
                {n.pods} of {n.maxPods} pods · up {age(now - n.created)}
                {n.version && ` · ${n.version}`}
                {n.runtime && ` · ${n.runtime}`}
                {n.kernel && ` · Linux ${n.kernel}`}
              </p>
            </li>
          )
        })}
      </ul>
    </Section>
  )
}
