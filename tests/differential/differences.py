"""Where DynamoDB Local is known to differ from the service. The service is right.

MESSAGES: when the emulator refuses with a message that matches the first pattern and the server with one
that matches the second, the two mean the same. Named groups that occur in both must agree. OUTCOMES are
cases where one answers and the other refuses. ORDER and VALIDATED say which fault may be told first when
a request has several. The types of the errors must be equal unless a rule names the pair it expects.
Everything else is a failure of the test, and so is a pattern that takes any message.
"""

import re

P = "One or more parameter values were invalid: "
NOT_FOUND = "ResourceNotFoundException"
INVALID = "ValidationException"
SIZE = r"Invalid (Condition|Filter|Update|Projection|KeyCondition)Expression: " \
       r"Attribute name is a reserved keyword; reserved keyword: size"
UNUSED = r"Value provided in ExpressionAttribute(Names|Values) unused in expressions: keys: \{[#:]\w+(, [#:]\w+)*\}"
OVERLAP = r"Invalid UpdateExpression: Two document paths overlap with each other; must remove or rewrite one of these paths; "
PATH = r"\[[^,]+(, [^,]+)*\]"
NUMBER = r"The parameter cannot be converted to a numeric value(: [^ ]{1,200})?"
VALUES = r"(?P<where>ExpressionAttributeValues contains invalid value: |)"
KEY = r"(?P<key> for key :\w+|)"

# (emulator's message, service's message, why[, (emulator's type, service's type)])
MESSAGES = [(re.compile(e), re.compile(s), why, types[0] if types else None) for e, s, why, *types in [
    (r"Cannot do operations on a non-existent table", r"Requested resource not found(: Table: [\w.-]+ not found)?",
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
    (VALUES + "A value provided cannot be converted into a number" + KEY, VALUES + NUMBER + KEY,
     "own wording for what is not a number"),
    (VALUES + "DynamoDB only supports precision up to 38 digits" + KEY,
     VALUES + "Attempting to store more than 38 significant digits in a Number" + KEY,
     "own wording for too many digits"),
    (VALUES + P + r"Input collection \[a, a\] contains duplicates" + KEY,
     VALUES + P + r"Input collection \[a, a\] contains duplicates\." + KEY, "the service ends the sentence"),
    (r"Return values set to invalid value", r"ReturnValues can only be ALL_OLD or NONE",
     "own wording for return values"),
    (r"Query condition missed key schema element", r"Query condition missed key schema element: \w+",
     "the emulator does not say which element"),
    (r"(?P<rest>ALL_PROJECTED_ATTRIBUTES can be used only when Querying using an IndexName)",
     P + r"(?P<rest>ALL_PROJECTED_ATTRIBUTES can be used only when Querying using an IndexName)", "no prefix"),
    (r"(?P<rest>Must specify the AttributesToGet or ProjectionExpression when choosing to get SPECIFIC_ATTRIBUTES)",
     P + r"(?P<rest>Must specify the AttributesToGet or ProjectionExpression when choosing to get SPECIFIC_ATTRIBUTES)",
     "no prefix"),
    (r"(?P<rest>Cannot specify the \w+ when choosing to get [\w ]+)",
     P + r"(?P<rest>Cannot specify the \w+ when choosing to get [\w ]+)", "no prefix"),
    (r"Cannot have two attributes with the same name", P + r"Duplicate value in attribute name: [\w.-]+",
     "own wording for duplicate names"),
    (P + r"(?P<action>ADD|DELETE) action( with value)? is not supported for the type \w+",
     P + r"(?P<action>ADD|DELETE) action( with value)? is not supported for the type \w+", "short and long names of types"),
    (r"Invalid attribute value type",
     P + r"Type mismatch for key \w+ expected: \w+ actual: \w+|The provided key element does not match the schema",
     "own wording for keys of types that no key can have"),
    (OVERLAP + r"path one: (?P<one>" + PATH + r"), path two: " + PATH,
     OVERLAP + r"path one: (?P<one>" + PATH + r"), path two: " + PATH,
     "the emulator names a wrong second path when the first is a plain attribute"),
    (r"The conditional request failed", SIZE, "the emulator takes `size` for an attribute; it is a reserved word",
     ("ConditionalCheckFailedException", INVALID)),
    (UNUSED + "|" + P + r"Secondary index \w+ does not project one or more filter attributes: \[[^\]]+\]", SIZE, "the emulator takes `size` for an attribute; it is a reserved word"),
    (r"Key attributes must be scalars; list random access '\[\]' and map lookup '\.' are not allowed: IndexKey: \w+",
     r"The provided key element does not match the schema", "two faults: the path of an index key, and the key"),
    # There is no authoritative source for a filter of a local index; Query refuses as the emulator does,
    # see docs/api-coverage.md.
    (P + r"Secondary index (?P<index>\w+) does not project one or more filter attributes: \[(?P<list>[^\]]+)\]",
     P + r"Secondary index (?P<index>\w+) does not project one or more filter attributes: \[(?P<list>[^\]]+)\]",
     "a list of attributes without an order"),
]]

# (operation or None, emulator error or None for an answer, server error or None, why). The affected
# items are made equal again afterwards. A refusal of ours is always a ValidationException.
OUTCOMES = [(op, e and re.compile(e), s and re.compile(s), why) for op, e, s, why in [
    ("UpdateItem", None, P + r"Type mismatch for Index Key \w+ Expected: \w+ Actual: \w+ IndexName: \S+|"
     r"The update expression attempted to update the secondary index key to unsupported type",
     "the emulator lets an update give an index key the wrong type"),
    ("UpdateItem", r"The request processing has failed because of an unknown error, exception or failure\.", None,
     "the emulator fails on an update of nothing that asks for what it updated"),
    (None, None, SIZE, "the emulator takes `size` for an attribute; it is a reserved word"),
]]

# When several things are wrong with one request the emulator checks the table, and then the keys, before
# expressions and values; the service checks what it can without the table first. So a message of ORDER
# from the emulator may stand against one of VALIDATED, and nothing else, from the server.
# (emulator's message, emulator's type)
ORDER = [(re.compile(e), kind) for e, kind in [
    (r"Cannot do operations on a non-existent table", NOT_FOUND),
    (r"The number of conditions on the keys is invalid", INVALID),
    (r"One of the required keys was not given a value", INVALID),
    (r"Invalid attribute value type", INVALID),
    (r"The table does not have the specified index: \w+", INVALID),
    (r"Key attributes must be scalars; list random access '\[\]' and map lookup '\.' are not allowed: "
     r"IndexKey: \w+", INVALID),
    (r"One or more parameter values are not valid\. The AttributeValue for a key attribute cannot contain an empty "
     r"(string|binary) value\. Key: \w+", INVALID),
    (P + r"Type mismatch for key", INVALID),
]]

# What the server (and the service) finds without the table; all are ValidationException.
VALIDATED = [re.compile(s) for s in [
    UNUSED,
    OVERLAP + r"path one: " + PATH + ", path two: " + PATH,
]]

# What only the item can show. When an update has several such faults, which one is told is a matter of
# the order of evaluation.
RUNTIME = ("The provided expression refers to an attribute that does not exist in the item",
           "The document path provided in the update expression is invalid for update",
           "An operand in the update expression has an incorrect data type")



def _agree(left, right):
    """Whether the named groups that two matches share are equal ("list": in any order)."""
    theirs, ours = left.groupdict(), right.groupdict()
    for name in theirs.keys() & ours.keys():
        if name == "list":
            if sorted(theirs[name].split(", ")) != sorted(ours[name].split(", ")):
                return False
        elif theirs[name] != ours[name]:
            return False
    return True


def same_refusal(emulator, emulator_type, service, service_type):
    """The reason if two refusals mean the same, "" if they are equal, None if they differ."""
    emulator, service = emulator or "", service or ""
    if (emulator, emulator_type) == (service, service_type):
        return ""
    for left, right, why, types in MESSAGES:
        if (emulator_type, service_type) != types if types else emulator_type != service_type:
            continue
        theirs, ours = left.fullmatch(emulator), right.fullmatch(service)
        if theirs and ours and _agree(theirs, ours):
            return why
    if service_type == INVALID and any(right.fullmatch(service) for right in VALIDATED):
        if any(kind == emulator_type and left.fullmatch(emulator) for left, kind in ORDER):
            return "the emulator looks at the table and its keys before anything else"
    return None


def same_outcome(operation, request, emulator, service, service_type):
    """As same_refusal for an answer (None) against a refusal."""
    if service is not None and service_type != INVALID:
        return None
    for op, left, right, why in OUTCOMES:
        if op not in (None, operation):
            continue
        if (left is None) != (emulator is None) or (right is None) != (service is None):
            continue
        if emulator is not None and ("UpdateExpression" in request or "AttributeUpdates" in request
                                     or not request.get("ReturnValues", "").startswith("UPDATED_")):
            continue            # what the emulator alone refuses: see OUTCOMES
        if (left is None or left.fullmatch(emulator)) and (right is None or right.fullmatch(service)):
            return why
    return None
