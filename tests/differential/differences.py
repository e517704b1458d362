"""Where DynamoDB Local is known to differ from the service. The service is right.

Each entry of MESSAGES says: when the emulator refuses with a message that matches `emulator` and the
server refuses with one that matches `service`, the two mean the same. OUTCOMES are cases where one
answers and the other refuses. Everything else is a failure of the test.
"""

import re

P = "One or more parameter values were invalid: "

# (emulator's message, service's message, why)
MESSAGES = [(re.compile(e), re.compile(s), why) for e, s, why in [
    (r"Cannot do operations on a non-existent table", r"Requested resource not found(: Table: .* not found)?",
     "the emulator has a wording of its own for absent tables"),
    (r"One of the required keys was not given a value",
     P + r"Missing the key \w+ in the item|The provided key element does not match the schema",
     "the emulator does not say which key is missing"),
    (r"The number of conditions on the keys is invalid", r"The provided key element does not match the schema",
     "own wording for keys with too many or too few attributes"),
    (P + r"Type mismatch for key", P + r"Type mismatch for key \w+ expected: \w+ actual: \w+|"
     r"The provided key element does not match the schema",
     "the emulator does not say which key and types"),
    (P + r"Type mismatch for Index Key",
     P + r"Type mismatch for Index Key \w+ Expected: \w+ Actual: \w+ IndexName: \S+",
     "the emulator does not say which index"),
    (r"A value provided cannot be converted into a number( for key :\w+)?",
     r"The parameter cannot be converted to a numeric value(: .*?)?( for key :\w+)?",
     "own wording for what is not a number"),
    (r"(ExpressionAttributeValues contains invalid value: )A value provided cannot be converted into a number( for key :\w+)",
     r"(ExpressionAttributeValues contains invalid value: )?The parameter cannot be converted to a numeric value(: .*?)?( for key :\w+)?",
     "own wording for what is not a number"),
    (r"(ExpressionAttributeValues contains invalid value: )?DynamoDB only supports precision up to 38 digits( for key :\w+)?",
     r"(ExpressionAttributeValues contains invalid value: )?Attempting to store more than 38 significant digits in a Number( for key :\w+)?",
     "own wording for too many digits"),
    (r"(.*)" + P + r"Input collection \[a, a\] contains duplicates( for key :\w+)?",
     r"(.*)" + P + r"Input collection \[a, a\] contains duplicates\.( for key :\w+)?",
     "the service ends the sentence"),
    (r"Return values set to invalid value", r"ReturnValues can only be ALL_OLD or NONE",
     "own wording for return values"),
    (r"Query condition missed key schema element", r"Query condition missed key schema element: \w+",
     "the emulator does not say which element"),
    (r"ALL_PROJECTED_ATTRIBUTES can be used only when Querying using an IndexName",
     P + r"ALL_PROJECTED_ATTRIBUTES can be used only when Querying using an IndexName", "no prefix"),
    (r"(Must specify the AttributesToGet or ProjectionExpression when choosing to get SPECIFIC_ATTRIBUTES)",
     P + r"(Must specify the AttributesToGet or ProjectionExpression when choosing to get SPECIFIC_ATTRIBUTES)",
     "no prefix"),
    (r"(Cannot specify the \w+ when choosing to get .*)", P + r"(Cannot specify the \w+ when choosing to get .*)",
     "no prefix"),
    (r"Cannot have two attributes with the same name", P + r"Duplicate value in attribute name: .*",
     "own wording for duplicate names"),
    (P + r"(ADD|DELETE) action( with value)? is not supported for the type \w+",
     P + r"(ADD|DELETE) action( with value)? is not supported for the type \w+", "short and long names of types"),
    (r"Invalid attribute value type",
     P + r"Type mismatch for key \w+ expected: \w+ actual: \w+|The provided key element does not match the schema",
     "own wording for keys of types that no key can have"),
    (r"(Invalid UpdateExpression: Two document paths overlap .* path one: \[.*?\]), path two: .*",
     r"(Invalid UpdateExpression: Two document paths overlap .* path one: \[.*?\]), path two: .*",
     "the emulator names a wrong second path when the first is a plain attribute"),
    (r".*", r"Invalid \w+Expression: Attribute name is a reserved keyword; reserved keyword: size",
     "the emulator takes `size` for an attribute; it is a reserved word"),
    (P + r"Secondary index \w+ does not project one or more filter attributes: \[.*\]",
     P + r"Secondary index \w+ does not project one or more filter attributes: \[.*\]",
     "a list of attributes without an order"),
]]

# (operation or None, emulator error or None for an answer, server error or None, why). The affected
# items are made equal again afterwards.
OUTCOMES = [(op, e and re.compile(e), s and re.compile(s), why) for op, e, s, why in [
    ("UpdateItem", None, P + r"Type mismatch for Index Key|The update expression attempted to update the secondary index key",
     "the emulator lets an update give an index key the wrong type"),
    (None, r"The request processing has failed because of an unknown error, exception or failure", r".*",
     "the emulator fails on some invalid requests"),
    (None, r"The request processing has failed because of an unknown error, exception or failure", None,
     "the emulator fails on some valid requests"),
    (None, None, r"Invalid \w+Expression: Attribute name is a reserved keyword; reserved keyword: size",
     "the emulator takes `size` for an attribute; it is a reserved word"),
    (None, P + r"Secondary index \w+ does not project one or more filter attributes", None,
     "a filter on attributes that a local index does not have: the service reads them from the table"),
]]

# When several things are wrong with one request the emulator checks the table, and then the keys, before
# expressions and values; the service checks what it can without the table first.
ORDER = re.compile(
    r"Cannot do operations on a non-existent table|The number of conditions on the keys is invalid|"
    r"One of the required keys was not given a value|Invalid attribute value type|"
    r"The table does not have the specified index|Key attributes must be scalars|One or more parameter values are not valid\. The "
    r"AttributeValue for a key attribute cannot contain an empty|" + P + r"Type mismatch for")

# What only the item can show. When an update has several such faults, which one is told is a matter of
# the order of evaluation.
RUNTIME = ("The provided expression refers to an attribute that does not exist in the item",
           "The document path provided in the update expression is invalid for update",
           "An operand in the update expression has an incorrect data type")


def same_message(emulator, service):
    """The reason if two messages mean the same, "" if they are equal, None if they differ."""
    if emulator == service:
        return ""
    for left, right, why in MESSAGES:
        if left.fullmatch(emulator or "") and right.fullmatch(service or ""):
            return why
    return None


def same_outcome(operation, emulator, service):
    """As same_message for an answer (None) against a refusal."""
    for op, left, right, why in OUTCOMES:
        if op not in (None, operation):
            continue
        if (left is None) != (emulator is None) or (right is None) != (service is None):
            continue
        if (left is None or left.match(emulator)) and (right is None or right.match(service)):
            return why
    return None
