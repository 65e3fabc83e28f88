// Does with Anthropic's SDK for Node what its users do, and tells on standard output what came of it.
import Anthropic from '@anthropic-ai/sdk'

const [baseURL, authToken, model, foreign] = process.argv.slice(2)
const anthropic = new Anthropic({ baseURL, apiKey: null, authToken, maxRetries: 0, timeout: 20_000 })
const messages = [{ role: 'user', content: 'Grüezi, Zürich' }]
const tools = [{ name: 'rain', description: 'How much.', input_schema: { type: 'object', properties: { city: { type: 'string' } } } }]

const told = {}
for (const name of [model, foreign]) {
  const stream = anthropic.messages.stream({ model: name, max_tokens: 4096, messages, tools })
  let pieces = 0
  stream.on('inputJson', () => (pieces += 1))
  const first = await stream.finalMessage()
  const calls = first.content.filter((block) => block.type === 'tool_use')
  const content = calls.map(({ id }, index) => ({ type: 'tool_result', tool_use_id: id, content: `${index} mm` }))
  const second = await anthropic.messages.create({
    model: name,
    max_tokens: 4096,
    tools,
    messages: [...messages, { role: 'assistant', content: first.content }, { role: 'user', content }],
  })
  const counted = await anthropic.messages.countTokens({ model: name, messages, tools })
  told[name] = {
    calls: calls.map((call) => call.input),
    inPieces: pieces > 2,
    reason: first.stop_reason,
    answered: second.content.map((block) => block.text).join(''),
    tokens: second.usage.output_tokens,
    counted: counted.input_tokens,
  }
}
let refused = null
try {
  await anthropic.messages.create({ model: 'nobody', max_tokens: 9, messages })
} catch (error) {
  refused = { status: error.status, type: error.error?.error?.type }
}
console.log(JSON.stringify({ ...told, refused }))
