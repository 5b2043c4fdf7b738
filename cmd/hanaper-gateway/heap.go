package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Go collects when the heap has doubled. For a gateway that is wrong at both ends: with few devices it collects all the time, and with thousands of idle
// connections half of its memory is what nobody uses any more. So the heap may grow to heapFloor before anything is collected, and beyond that by
// heapGrowth percent of what is in use. An operator who sets GOGC decides himself.
const (
	heapFloor  = 64 << 20
	heapGrowth = 40
	// least is what the runtime multiplies by the percentage where less is in use (GOGC in package runtime).
	least = 4 << 20
	// quiet is a second in which less than this many bytes are asked for; loose is how many must have been since memory was given back.
	quiet = 1 << 20
	loose = 16 << 20
)

// growth is the percentage to set while this many bytes are in use.
func growth(live uint64) int {
	if live = max(live, least); live >= heapFloor {
		return heapGrowth
	}
	return max(heapGrowth, int((heapFloor-live)*100/live))
}

// paceHeap sets the percentage after each collection from now on, and gives memory back until ctx ends.
func paceHeap(ctx context.Context) {
	p := &pace{sample: []metrics.Sample{{Name: "/gc/heap/live:bytes"}}}
	p.adjust()
	p.await()
	go giveBack(ctx)
}

// giveBack gives unused memory back to the system whenever it becomes quiet.
func giveBack(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var r rest
	asked := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			metrics.Read(asked)
			if r.due(asked[0].Value.Uint64()) {
				debug.FreeOSMemory()
			}
		}
	}
}

// rest knows how much had been asked for a second ago, and when memory was last given back.
type rest struct{ before, given uint64 }

func (r *rest) due(asked uint64) bool {
	due := asked-r.before < quiet && asked-r.given > loose
	if r.before = asked; due {
		r.given = asked
	}
	return due
}

type pace struct {
	sample []metrics.Sample
	now    int
}

// await has the runtime call when the next collection has found out what is in use.
func (p *pace) await() {
	runtime.AddCleanup(new([16]byte), func(p *pace) { p.adjust(); p.await() }, p)
}

func (p *pace) adjust() {
	metrics.Read(p.sample)
	// To set it stops the world for a moment: not for every little difference.
	if want := growth(p.sample[0].Value.Uint64()); want < p.now*9/10 || want > p.now*11/10 {
		debug.SetGCPercent(want)
		p.now = want
	}
}
