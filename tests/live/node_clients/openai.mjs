// Does with openai-node what its users do, and tells on standard output what came of it.
import OpenAI from 'openai'
import { zodTextFormat } from 'openai/helpers/zod'
import { z } from 'zod'

const [url, apiKey, model, caller] = process.argv.slice(2)
const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0, timeout: 20_000 })
const messages = [{ role: 'user', content: 'Grüezi, Zürich' }]
const parameters = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'], additionalProperties: false }

const chat = await openai.chat.completions.create({ model, messages })
let streamed = ''
const chunks = await openai.chat.completions.create({ model, messages, stream: true, stream_options: { include_usage: true } })
let tokens = 0
for await (const chunk of chunks) {
  streamed += chunk.choices[0]?.delta?.content ?? ''
  tokens = chunk.usage?.completion_tokens ?? tokens
}
const response = await openai.responses.create({ model, input: 'Grüezi, Zürich', store: false })
const kinds = []
const stream = openai.responses.stream({ model, input: 'Grüezi, Zürich', store: false })
for await (const event of stream) kinds.push(event.type)
const final = await stream.finalResponse()
const Person = z.object({ name: z.string(), age: z.number() })
const parsed = await openai.responses.parse({
  model,
  input: 'Who?',
  store: false,
  text: { format: zodTextFormat(Person, 'person') },
})
const tools = [{ type: 'function', name: 'weather', description: 'The weather.', strict: true, parameters }]
const first = await openai.responses.stream({ model: caller, input: 'Rain?', store: false, tools }).finalResponse()
const calls = first.output.filter((item) => item.type === 'function_call')
const results = calls.map(({ call_id }, index) => ({ type: 'function_call_output', call_id, output: `${index} mm` }))
const second = await openai.responses.create({
  model: caller,
  store: false,
  tools,
  input: [{ role: 'user', content: 'Rain?' }, ...first.output, ...results],
})
let refused = null
try {
  await openai.responses.create({ model, input: 'Hm?', previous_response_id: 'resp_1' })
} catch (error) {
  refused = { status: error.status, param: error.param }
}
console.log(
  JSON.stringify({
    chat: chat.choices[0].message.content,
    streamed,
    tokens,
    response: response.output_text,
    first: kinds[0],
    last: kinds.at(-1),
    final: final.output_text,
    counted: final.usage.output_tokens,
    parsed: parsed.output_parsed,
    calls: calls.map((call) => JSON.parse(call.arguments)),
    answered: second.output_text,
    refused,
  }),
)
