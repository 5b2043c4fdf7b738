// Package order holds the orders that open lots: what one says (docs/spec/order.md), and who signed it. It does no I/O.
//
// An order is carried by anybody, over any way. An attacker who can change one makes it worthless: nothing that it says is looked at by the service
// before the signatures of those who may order are verified. Who has an operator's key, or the keys of as many officers as are asked for, can order what
// he likes. What was ordered before is not ordered again by sending it once more: the store applies each order once.
package order
