// Command mutants changes the program in one place at a time, and says which changes no test notices. The list is in
// *.txt beside this file; the tree is left as it is (go test -overlay). scripts/mutants runs it.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run() error {
	only := flag.String("run", "", "only mutants whose `REGEXP` is in their name or file")
	at := flag.Int("p", 2, "how many at once")
	check := flag.Bool("check", false, "only say which are stale: run nothing")
	flag.Parse()
	pattern, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	lists, err := filepath.Glob("internal/mutants/*.txt")
	if err != nil || len(lists) == 0 {
		return fmt.Errorf("no list in internal/mutants: run scripts/mutants (%v)", err)
	}
	var all []mutant
	for _, path := range lists {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		list, err := parse(path, string(data))
		if err != nil {
			return err
		}
		all = append(all, list...)
	}
	all = slices.DeleteFunc(all, func(m mutant) bool { return !pattern.MatchString(m.name) && !pattern.MatchString(m.file) })
	r := &runner{checkOnly: *check, clean: map[string]func() error{}}
	if r.dir, err = os.MkdirTemp("", "hanaper-mutants-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.dir)
	results := make([]result, len(all))
	next := make(chan int)
	var workers sync.WaitGroup
	for range max(1, *at) {
		workers.Go(func() {
			for i := range next {
				start := time.Now()
				results[i] = r.try(i, all[i])
				if *check && results[i].verdict != stale {
					continue
				}
				fmt.Printf("%-8s %4.0fs %-28s %s%s\n", results[i].verdict, time.Since(start).Seconds(), all[i].file, all[i].name, results[i].remark())
			}
		})
	}
	for i := range all {
		next <- i
	}
	close(next)
	workers.Wait()
	return report(all, results, *check)
}

// report counts, and fails unless all were killed but those that the list says survive.
func report(all []mutant, results []result, checkOnly bool) error {
	count := map[verdict]int{}
	wrong := 0
	for i, r := range results {
		count[r.verdict]++
		want := killed
		if all[i].survives != "" || checkOnly {
			want = survived
		}
		if r.verdict != want {
			wrong++
		}
	}
	if checkOnly {
		if wrong > 0 {
			return fmt.Errorf("the text that %d of %d are to change is gone, or there more than once: see internal/mutants", wrong, len(all))
		}
		return nil
	}
	fmt.Printf("\n%d mutants: %d killed, %d survived, %d stale, %d broken\n", len(all), count[killed], count[survived], count[stale], count[broken])
	if wrong > 0 {
		return fmt.Errorf("%d are not as the list says", wrong)
	}
	return nil
}
