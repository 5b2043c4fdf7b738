package gateway

import "sync"

// flights counts the requests under way, in all and of each device.
type flights struct {
	mu    sync.Mutex
	all   int
	of    map[string]int
	most  int
	ofOne int
}

// enter takes a request in. Where it cannot, all says whether it is the gateway that is busy, and not the device.
func (f *flights) enter(device string) (ok, all bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.of[device] >= f.ofOne {
		return false, false
	}
	if f.all >= f.most {
		return false, true
	}
	f.all++
	f.of[device]++
	return true, false
}

func (f *flights) leave(device string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all--
	if f.of[device]--; f.of[device] == 0 {
		delete(f.of, device)
	}
}
