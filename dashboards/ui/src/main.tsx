import { render } from 'preact'
import { App } from './app'
import { live } from './live'
import './style.css'

const root = document.getElementById('app')
if (root) {
  live.start()
  render(<App />, root)
  // A browser may keep a page that was left, with its stream, to come back to.
  addEventListener('pagehide', () => live.stop())
  addEventListener('pageshow', (e) => e.persisted && live.start())
}
