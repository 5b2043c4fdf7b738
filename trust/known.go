package trust

import formats "github.com/hanaper/hanaper/internal/format"

// knownAt says by what was known of weak keys a repository is judged: when this format of ceremonies was the newest, or
// with the zero value by all that is known. Somebody who verifies an old ceremony judges it by its own time; a gateway
// judges by today's.
type knownAt = formats.Version

// knownFirst is for keys that were judged before: it takes what each format knew.
var knownFirst = formats.First
