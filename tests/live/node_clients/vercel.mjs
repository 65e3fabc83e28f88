// Does with the Vercel AI SDK what its users do, and tells on standard output what came of it.
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { generateText, stepCountIs, streamText, tool } from 'ai'
import { z } from 'zod'

const [url, apiKey, name, caller] = process.argv.slice(2)
const gateway = createOpenAICompatible({ name: 'switchboard', baseURL: `${url}/v1`, apiKey, includeUsage: true })
const prompt = 'Grüezi, Zürich'

const whole = await generateText({ model: gateway(name), prompt, maxRetries: 0 })
const stream = streamText({ model: gateway(name), prompt, maxRetries: 0 })
const pieces = []
for await (const piece of stream.textStream) pieces.push(piece)
const asked = []
const weather = tool({
  description: 'The weather in a city.',
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => {
    asked.push(city)
    return `Rain in ${city}.`
  },
})
const looped = await generateText({
  model: gateway(caller),
  prompt,
  tools: { weather },
  stopWhen: stepCountIs(3),
  maxRetries: 0,
})
const streamedLoop = streamText({
  model: gateway(caller),
  prompt,
  tools: { weather },
  stopWhen: stepCountIs(3),
  maxRetries: 0,
})
console.log(
  JSON.stringify({
    whole: whole.text,
    reason: whole.finishReason,
    tokens: whole.usage.outputTokens,
    streamed: pieces.join(''),
    pieces: pieces.length,
    counted: (await stream.usage).outputTokens,
    looped: looped.text,
    streamedLoop: await streamedLoop.text,
    asked,
  }),
)
