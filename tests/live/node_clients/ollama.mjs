// Does with ollama-js what its users do, and tells on standard output what came of it.
import { Ollama } from 'ollama'

const [host, key, picture] = process.argv.slice(2)
const ollama = new Ollama({ host, headers: { Authorization: `Bearer ${key}` } })
const messages = [{ role: 'user', content: 'Grüezi, Zürich' }]
const rain = { type: 'function', function: { name: 'rain', description: 'Rain', parameters: { type: 'object', properties: {} } } }

const called = await ollama.chat({ model: 'everything', messages, tools: [rain] })
const streamed = { text: '', thinking: '', tokens: 0 }
const seen = [{ ...messages[0], images: [picture] }]
for await (const part of await ollama.chat({ model: 'everything', messages: seen, think: true, stream: true })) {
  streamed.text += part.message.content
  streamed.thinking += part.message.thinking ?? ''
  streamed.tokens = part.eval_count ?? 0
}
let translated = ''
for await (const part of await ollama.chat({ model: 'gpt-fake', messages, stream: true })) translated += part.message.content
const generated = await ollama.generate({ model: 'echo', prompt: 'Grüezi' })
const embedded = await ollama.embed({ model: 'nomic-embed-text', input: ['one', 'two'] })
const older = await ollama.embeddings({ model: 'nomic-embed-text', prompt: 'one' })
let refused = null
try {
  await ollama.chat({ model: 'nobody', messages })
} catch (error) {
  refused = { status: error.status_code, starts: error.message.slice(0, 24) }
}
console.log(
  JSON.stringify({
    calls: called.message.tool_calls.map((call) => call.function.arguments),
    streamed,
    translated,
    generated: generated.response,
    vectors: embedded.embeddings.length,
    first: embedded.embeddings[0],
    vector: older.embedding,
    models: (await ollama.list()).models.map((model) => model.name),
    capabilities: (await ollama.show({ model: 'everything' })).capabilities,
    running: (await ollama.ps()).models.map((model) => model.name),
    refused,
  }),
)
