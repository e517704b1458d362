"""Seeded random programs of DynamoDB operations: valid ones, and ones with one thing wrong on purpose."""

import base64
import json
import random

ATTRIBUTES = ["a", "b", "c", "d", "e", "f", "deep", "arr", "words", "nums"]
RESERVED = ["name", "status", "size", "count", "data", "value"]
HASHES = {"S": ["h1", "h2", "h3", "\u00e9"], "N": ["1", "-2.5", "1e3", "0"], "B": ["AQ==", "AgM=", "/w=="]}
RANGES = {"S": ["", "0", "1", "a", "aa", "ab", "b", "\uffff", "\U0001f600"],
          "N": ["-100", "-1.5", "0", "1", "1.50", "2", "1e2", "99999999999999999999999999999999999999"],
          "B": ["AA==", "AAA=", "AQ==", "fw==", "gA==", "/w==", "/wA="]}
RANGES["S"].remove("")


class Placeholders:
    """Collects ExpressionAttributeNames and Values while an expression is being written."""

    def __init__(self, dice):
        self.dice = dice
        self.names = {}
        self.values = {}

    def name(self, attribute):
        if attribute in RESERVED or not attribute.isidentifier() or self.dice.random() < 0.3:
            for placeholder, known in self.names.items():
                if known == attribute:
                    return placeholder
            placeholder = f"#n{len(self.names)}"
            self.names[placeholder] = attribute
            return placeholder
        return attribute

    def value(self, value):
        placeholder = f":v{len(self.values)}"
        self.values[placeholder] = value
        return placeholder

    def into(self, request):
        if self.names:
            request["ExpressionAttributeNames"] = self.names
        if self.values:
            request["ExpressionAttributeValues"] = self.values
        return request


class Program:
    """Steps [(operation, request), ...] over tables of its own; the first steps create them."""

    def __init__(self, seed, steps=50):
        self.seed = seed
        self.dice = random.Random(seed)
        self.tables = [self.table(i) for i in range(self.dice.choice([1, 1, 2]))]
        self.steps = [("CreateTable", t["request"]) for t in self.tables]
        # Something to find: reads of an empty table teach little.
        for table in self.tables:
            self.steps += [("PutItem", {"TableName": table["name"], "Item": self.item(table)})
                           for _ in range(self.dice.randrange(4, 12))]
        self.steps += [self.step() for _ in range(steps)]

    # -- tables and values -------------------------------------------------------------------

    def table(self, number):
        dice = self.dice
        name = f"diff_{self.seed}_{number}"
        hash_type = dice.choice("SSNB")
        range_type = dice.choice([None, "S", "N", "N", "B"])
        definitions = {"pk": hash_type}
        schema = [{"AttributeName": "pk", "KeyType": "HASH"}]
        indexes = {}
        if range_type:
            definitions["sk"] = range_type
            schema.append({"AttributeName": "sk", "KeyType": "RANGE"})
            for i in range(dice.choice([0, 0, 1, 2])):
                attribute = ["a", "b"][i]
                definitions[attribute] = dice.choice("SN")
                kind = dice.choice(["ALL", "KEYS_ONLY", "INCLUDE"])
                projection = {"ProjectionType": kind}
                if kind == "INCLUDE":
                    projection["NonKeyAttributes"] = ["c", "deep"]
                indexes[f"index{i}"] = (attribute, projection)
        request = {"TableName": name, "KeySchema": schema, "BillingMode": "PAY_PER_REQUEST",
                   "AttributeDefinitions": [{"AttributeName": n, "AttributeType": t}
                                            for n, t in definitions.items()]}
        if indexes:
            request["LocalSecondaryIndexes"] = [
                {"IndexName": n, "Projection": p, "KeySchema": [
                    {"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": a, "KeyType": "RANGE"}]}
                for n, (a, p) in indexes.items()]
        return {"name": name, "types": definitions, "range": range_type, "indexes": indexes,
                "request": request,
                "hashes": dice.sample(HASHES[hash_type], 2 if range_type else 3),
                "ranges": dice.sample(RANGES[range_type], 5) if range_type else []}

    def key(self, table):
        key = {"pk": {table["types"]["pk"]: self.dice.choice(table["hashes"])}}
        if table["range"]:
            key["sk"] = {table["range"]: self.dice.choice(table["ranges"])}
        return key

    def number(self):
        dice = self.dice
        return dice.choice([str(dice.randrange(-20, 20)), str(dice.randrange(-200, 200) / 8), "1e3", "-0", "0.10",
                            f"{dice.randrange(1, 9)}E-{dice.randrange(1, 20)}",
                            str(dice.randrange(10 ** 15))])

    def text(self):
        return self.dice.choice(["", "x", "y", "xy", "hello", "caf\u00e9", "\U0001f3fa", "z" * self.dice.randrange(30)])

    def binary(self):
        return base64.b64encode(self.dice.choice([b"", b"x", b"\x00\xff", b"xyz"])).decode()

    def value(self, depth=0, kind=None):
        dice = self.dice
        kind = kind or dice.choice(["S", "N", "S", "N", "BOOL", "NULL", "B", "SS", "NS", "L", "M"])
        if kind == "S":
            return {"S": self.text()}
        if kind == "N":
            return {"N": self.number()}
        if kind == "B":
            return {"B": self.binary()}
        if kind == "BOOL":
            return {"BOOL": dice.random() < 0.5}
        if kind == "NULL":
            return {"NULL": True}
        if kind == "SS":
            return {"SS": dice.sample(["x", "y", "z", "hello"], dice.randrange(1, 4))}
        if kind == "NS":
            return {"NS": dice.sample(["1", "2.5", "-3", "100"], dice.randrange(1, 4))}
        if kind == "BS":
            return {"BS": dice.sample(["eA==", "AP8=", "eXo="], dice.randrange(1, 3))}
        if depth >= 3:
            return {"S": "leaf"}
        if kind == "L":
            return {"L": [self.value(depth + 1) for _ in range(dice.randrange(4))]}
        return {"M": {dice.choice(["p", "q", "r", "name"]): self.value(depth + 1)
                      for _ in range(dice.randrange(3))}}

    def attribute(self, table, name):
        """A value that fits the attribute: index keys keep their type, a few names a usual one."""
        if name in table["types"]:
            kind = table["types"][name]
            value = self.value(kind=kind)
            return {"S": "k" + value["S"]} if kind == "S" else value
        usual = {"deep": "M", "arr": "L", "words": "SS", "nums": "NS", "c": "N"}.get(name)
        return self.value(kind=usual if usual and self.dice.random() < 0.8 else None)

    def item(self, table):
        item = self.key(table)
        for name in self.dice.sample(ATTRIBUTES + RESERVED[:2], self.dice.randrange(7)):
            item[name] = self.attribute(table, name)
        if self.dice.random() < 0.03:
            item["filler"] = {"S": "f" * self.dice.randrange(1000, 9000)}
        return item

    # -- expressions -------------------------------------------------------------------------

    def path(self, holders, top=None):
        dice = self.dice
        top = top or dice.choice(ATTRIBUTES + ["absent", "name"])
        text = holders.name(top)
        while dice.random() < (0.5 if top in ("deep", "arr") else 0.1):
            if top == "arr" and text.count("[") == 0 or dice.random() < 0.3:
                text += f"[{dice.randrange(4)}]"
            else:
                text += "." + holders.name(dice.choice(["p", "q", "r", "name"]))
        return text

    def operand(self, holders):
        return self.path(holders) if self.dice.random() < 0.3 else holders.value(self.value())

    def condition(self, holders, depth=0, names=None):
        dice = self.dice
        choice = dice.random()
        if depth < 3 and choice < 0.3:
            word = dice.choice(["AND", "OR"])
            parts = [self.condition(holders, depth + 1, names) for _ in range(2)]
            return f" {word} ".join(f"({p})" if " AND " in p or " OR " in p else p for p in parts)
        if depth < 3 and choice < 0.38:
            return f"NOT ({self.condition(holders, 3, names)})"
        path = self.path(holders, dice.choice(names) if names else None)
        kind = dice.randrange(10)
        if kind <= 3:
            operator = dice.choice(["=", "<>", "<", "<=", ">", ">="])
            value = self.value(kind=None if operator in ("=", "<>") else dice.choice("SNB"))
            return f"{path} {operator} {holders.value(value)}"
        if kind == 4:
            low, high = sorted([dice.randrange(-20, 20), dice.randrange(-20, 20)])
            return f"{path} BETWEEN {holders.value({'N': str(low)})} AND {holders.value({'N': str(high)})}"
        if kind == 5:
            count = dice.randrange(1, 4)
            return f"{path} IN ({', '.join(holders.value(self.value()) for _ in range(count))})"
        if kind == 6:
            return f"{dice.choice(['attribute_exists', 'attribute_not_exists'])}({path})"
        if kind == 7:
            if dice.random() < 0.5:
                return f"begins_with({path}, {holders.value({'S': dice.choice(['x', 'h', 'k', ''])})})"
            return f"attribute_type({path}, {holders.value({'S': dice.choice('S N M L SS NS BOOL NULL'.split())})})"
        if kind == 8:
            return f"contains({path}, {holders.value(self.value(kind=dice.choice('SN')))})"
        return f"size({path}) {dice.choice(['=', '<', '>', '>='])} {holders.value({'N': str(dice.randrange(6))})}"

    def update(self, table, holders):
        dice = self.dice
        tops = [n for n in ATTRIBUTES + ["fresh", "name"] if n not in table["types"] or dice.random() < 0.5]
        dice.shuffle(tops)
        sections = {"SET": [], "REMOVE": [], "ADD": [], "DELETE": []}
        for top in tops[:dice.randrange(1, 5)]:
            typed = top in table["types"]
            plain = typed or dice.random() < 0.7
            path = holders.name(top) if plain else self.path(holders, top)
            kind = dice.randrange(10)
            if kind >= 8 and dice.random() < 0.7:
                # ADD and DELETE to something of the right type.
                path = holders.name(["c", "words", "nums"][kind % 3]) if top not in ("c", "words", "nums") else path
                if any(path in part for parts in sections.values() for part in parts):
                    continue
            if typed:
                if dice.random() < 0.7:
                    sections["SET"].append(f"{path} = {holders.value(self.attribute(table, top))}")
                else:
                    sections["REMOVE"].append(path)
            elif kind <= 2:
                sections["SET"].append(f"{path} = {holders.value(self.attribute(table, top))}")
            elif kind == 3:
                sign = dice.choice("+-")
                source = holders.name("c")
                if dice.random() < 0.7:
                    source = f"if_not_exists({source}, {holders.value({'N': self.number()})})"
                sections["SET"].append(f"{path} = {source} {sign} {holders.value({'N': self.number()})}")
            elif kind == 4:
                sections["SET"].append(f"{path} = if_not_exists({path}, {holders.value(self.value())})")
            elif kind == 5:
                parts = [f"if_not_exists({holders.name('arr')}, {holders.value({'L': []})})",
                         holders.value(self.value(kind="L"))]
                dice.shuffle(parts)
                sections["SET"].append(f"{path} = list_append({parts[0]}, {parts[1]})")
            elif kind == 6:
                fallback = f"if_not_exists({self.path(holders)}, {holders.value(self.value())})"
                sections["SET"].append(f"{path} = {fallback if dice.random() < 0.7 else self.path(holders)}")
            elif kind == 7:
                sections["REMOVE"].append(path)
            elif kind == 8:
                sections["ADD"].append(f"{path} {holders.value(self.value(kind=dice.choice(['N', 'SS', 'NS'])))}")
            else:
                sections["DELETE"].append(f"{path} {holders.value(self.value(kind=dice.choice(['SS', 'NS'])))}")
        order = [s for s in sections if sections[s]]
        dice.shuffle(order)
        return " ".join(f"{s} {', '.join(sections[s])}" for s in order)

    def projection(self, holders):
        tops = self.dice.sample(ATTRIBUTES + ["pk", "name"], self.dice.randrange(1, 4))
        return ", ".join(holders.name(t) if t == "pk" else self.path(holders, t) for t in tops)

    # -- legacy parameters -------------------------------------------------------------------

    def legacy_condition(self, expected):
        dice = self.dice
        if expected and dice.random() < 0.4:
            return dice.choice([{"Exists": False}, {"Value": self.value()}])
        operator = dice.choice(["EQ", "NE", "LT", "LE", "GT", "GE", "NULL", "NOT_NULL", "CONTAINS", "NOT_CONTAINS",
                                "BEGINS_WITH", "IN", "BETWEEN"])
        condition = {"ComparisonOperator": operator}
        if operator in ("NULL", "NOT_NULL"):
            pass
        elif operator == "BETWEEN":
            low, high = sorted([dice.randrange(-20, 20), dice.randrange(-20, 20)])
            condition["AttributeValueList"] = [{"N": str(low)}, {"N": str(high)}]
        elif operator == "IN":
            kind = dice.choice("SN")
            condition["AttributeValueList"] = [self.value(kind=kind) for _ in range(dice.randrange(1, 4))]
        elif operator == "BEGINS_WITH":
            condition["AttributeValueList"] = [{"S": dice.choice(["x", "h", "k"])}]
        else:
            condition["AttributeValueList"] = [self.value(kind=dice.choice("SN"))]
        return condition

    def legacy_filter(self, request, field, expected=False):
        names = self.dice.sample(ATTRIBUTES[2:] + ["absent"], self.dice.randrange(1, 3))
        request[field] = {n: self.legacy_condition(expected) for n in names}
        if len(names) > 1 and self.dice.random() < 0.5:
            request["ConditionalOperator"] = self.dice.choice(["AND", "OR"])

    # -- steps -------------------------------------------------------------------------------

    def step(self):
        dice = self.dice
        table = dice.choice(self.tables)
        weights = {"put": 20, "update": 22, "delete": 7, "get": 8, "query": 16, "scan": 8, "batch_write": 5,
                   "batch_get": 5, "legacy_put": 3, "legacy_update": 4, "legacy_delete": 1, "legacy_query": 3,
                   "legacy_scan": 2, "describe": 1}
        kind = dice.choices(list(weights), list(weights.values()))[0]
        operation, request = getattr(self, "step_" + kind)(table)
        if dice.random() < 0.5 and operation not in ("DescribeTable",):
            request["ReturnConsumedCapacity"] = dice.choice(["TOTAL", "INDEXES"])
        if dice.random() < 0.14:
            self.spoil(operation, request, table)
        return operation, json.loads(json.dumps(request))

    def step_put(self, table):
        request = {"TableName": table["name"], "Item": self.item(table)}
        holders = Placeholders(self.dice)
        if self.dice.random() < 0.4:
            request["ConditionExpression"] = self.condition(holders)
        self.returning(request, ["NONE", "ALL_OLD"])
        return "PutItem", holders.into(request)

    def step_delete(self, table):
        request = {"TableName": table["name"], "Key": self.key(table)}
        holders = Placeholders(self.dice)
        if self.dice.random() < 0.4:
            request["ConditionExpression"] = self.condition(holders)
        self.returning(request, ["NONE", "ALL_OLD"])
        return "DeleteItem", holders.into(request)

    def step_update(self, table):
        request = {"TableName": table["name"], "Key": self.key(table)}
        holders = Placeholders(self.dice)
        if self.dice.random() < 0.95:
            request["UpdateExpression"] = self.update(table, holders)
            if not request["UpdateExpression"]:
                request.pop("UpdateExpression")
        if self.dice.random() < 0.25:
            request["ConditionExpression"] = self.condition(holders)
        self.returning(request, ["NONE", "ALL_OLD", "ALL_NEW", "UPDATED_OLD", "UPDATED_NEW"])
        return "UpdateItem", holders.into(request)

    def returning(self, request, choices):
        if self.dice.random() < 0.6:
            request["ReturnValues"] = self.dice.choice(choices)
        if "ConditionExpression" in request and self.dice.random() < 0.3:
            request["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"

    def step_get(self, table):
        request = {"TableName": table["name"], "Key": self.key(table)}
        holders = Placeholders(self.dice)
        if self.dice.random() < 0.5:
            request["ProjectionExpression"] = self.projection(holders)
        elif self.dice.random() < 0.2:
            request["AttributesToGet"] = self.dice.sample(ATTRIBUTES, 2)
        if self.dice.random() < 0.3:
            request["ConsistentRead"] = True
        return "GetItem", holders.into(request)

    def step_query(self, table):
        dice = self.dice
        holders = Placeholders(dice)
        index = dice.choice(list(table["indexes"])) if table["indexes"] and dice.random() < 0.5 else None
        sort = table["indexes"][index][0] if index else ("sk" if table["range"] else None)
        condition = f"{holders.name('pk')} = {holders.value(self.key(table)['pk'])}"
        if sort and dice.random() < 0.6:
            kind = table["types"][sort]
            pool = RANGES[kind]
            path = holders.name(sort)
            choice = dice.randrange(4)
            if choice == 0:
                operator = dice.choice(["=", "<", "<=", ">", ">="])
                condition += f" AND {path} {operator} {holders.value({kind: dice.choice(pool)})}"
            elif choice == 1:
                low, high = sorted(dice.choices(range(len(pool)), k=2))
                condition += f" AND {path} BETWEEN {holders.value({kind: pool[low]})} AND {holders.value({kind: pool[high]})}"
            elif choice == 2 and kind != "N":
                condition += f" AND begins_with({path}, {holders.value({kind: dice.choice(pool)})})"
        request = {"TableName": table["name"], "KeyConditionExpression": condition}
        if index:
            request["IndexName"] = index
        self.reading(request, holders, table, {"pk", sort} - {None})
        if dice.random() < 0.4:
            request["ScanIndexForward"] = dice.random() < 0.5
        return "Query", holders.into(request)

    def step_scan(self, table):
        holders = Placeholders(self.dice)
        request = {"TableName": table["name"]}
        if table["indexes"] and self.dice.random() < 0.4:
            request["IndexName"] = self.dice.choice(list(table["indexes"]))
        self.reading(request, holders, table, set())
        return "Scan", holders.into(request)

    def reading(self, request, holders, table, forbidden):
        dice = self.dice
        if dice.random() < 0.4:
            names = [n for n in ATTRIBUTES + ["absent", "name"] if n not in forbidden]
            request["FilterExpression"] = self.condition(holders, names=names)
        choice = dice.random()
        if choice < 0.25:
            request["ProjectionExpression"] = self.projection(holders)
            if dice.random() < 0.3:
                request["Select"] = "SPECIFIC_ATTRIBUTES"
        elif choice < 0.4:
            request["Select"] = dice.choice(["COUNT", "ALL_ATTRIBUTES"] + (
                ["ALL_PROJECTED_ATTRIBUTES"] if "IndexName" in request else []))
        if dice.random() < 0.4:
            request["Limit"] = dice.randrange(1, 8)
        if dice.random() < 0.3:
            request["ConsistentRead"] = True

    def step_batch_write(self, table):
        requests, seen = {}, set()
        for _ in range(self.dice.randrange(1, 10)):
            chosen = self.dice.choice(self.tables)
            item = self.item(chosen)
            identity = (chosen["name"], canonical_key(item))
            if identity in seen:
                continue
            seen.add(identity)
            keys = {k: item[k] for k in ("pk", "sk") if k in item}
            requests.setdefault(chosen["name"], []).append(
                {"PutRequest": {"Item": item}} if self.dice.random() < 0.7 else {"DeleteRequest": {"Key": keys}})
        return "BatchWriteItem", {"RequestItems": requests}

    def step_batch_get(self, table):
        request = {}
        for chosen in self.tables:
            keys = {}
            for _ in range(self.dice.randrange(1, 8)):
                key = self.key(chosen)
                keys[canonical_key(key)] = key
            holders = Placeholders(self.dice)
            entry = {"Keys": list(keys.values())}
            if self.dice.random() < 0.4:
                entry["ProjectionExpression"] = self.projection(holders)
            if self.dice.random() < 0.3:
                entry["ConsistentRead"] = True
            request[chosen["name"]] = holders.into(entry)
        return "BatchGetItem", {"RequestItems": request}

    def step_legacy_put(self, table):
        request = {"TableName": table["name"], "Item": self.item(table)}
        self.legacy_filter(request, "Expected", True)
        return "PutItem", request

    def step_legacy_delete(self, table):
        request = {"TableName": table["name"], "Key": self.key(table), "ReturnValues": "ALL_OLD"}
        self.legacy_filter(request, "Expected", True)
        return "DeleteItem", request

    def step_legacy_update(self, table):
        dice = self.dice
        request = {"TableName": table["name"], "Key": self.key(table), "AttributeUpdates": {}}
        for name in dice.sample([n for n in ATTRIBUTES if n not in table["types"]], dice.randrange(1, 4)):
            choice = dice.randrange(4)
            update = ({"Action": "PUT", "Value": self.attribute(table, name)},
                      {"Action": "ADD", "Value": self.value(kind=dice.choice(["N", "SS", "NS"]))},
                      {"Action": "DELETE"},
                      {"Action": "DELETE", "Value": self.value(kind=dice.choice(["SS", "NS"]))})[choice]
            request["AttributeUpdates"][name] = update
        if dice.random() < 0.3:
            self.legacy_filter(request, "Expected", True)
        self.returning(request, ["NONE", "ALL_OLD", "ALL_NEW", "UPDATED_OLD", "UPDATED_NEW"])
        return "UpdateItem", request

    def step_legacy_query(self, table):
        dice = self.dice
        conditions = {"pk": {"ComparisonOperator": "EQ", "AttributeValueList": [self.key(table)["pk"]]}}
        if table["range"] and dice.random() < 0.5:
            conditions["sk"] = {"ComparisonOperator": dice.choice(["EQ", "LT", "LE", "GT", "GE"]),
                                "AttributeValueList": [self.key(table)["sk"]]}
        request = {"TableName": table["name"], "KeyConditions": conditions}
        if dice.random() < 0.5:
            self.legacy_filter(request, "QueryFilter")
        if dice.random() < 0.3:
            request["AttributesToGet"] = dice.sample(ATTRIBUTES, 2)
        return "Query", request

    def step_legacy_scan(self, table):
        request = {"TableName": table["name"]}
        self.legacy_filter(request, "ScanFilter")
        return "Scan", request

    def step_describe(self, table):
        return "DescribeTable", {"TableName": table["name"]}

    # -- faults ------------------------------------------------------------------------------

    def spoil(self, operation, request, table):
        """Puts one thing wrong into a request; most such requests are refused."""
        dice = self.dice
        faults = [f for f in dir(self) if f.startswith("fault_")]
        dice.shuffle(faults)
        for fault in faults:
            if getattr(self, fault)(operation, request, table):
                return

    def where(self, request):
        return request.get("Key") or request.get("Item")

    def fault_absent_table(self, operation, request, table):
        if "TableName" in request and self.dice.random() < 0.3:
            request["TableName"] = "no_such_table"
            return True

    def fault_missing_key(self, operation, request, table):
        keys = self.where(request)
        if keys:
            keys.pop(self.dice.choice([k for k in ("pk", "sk") if k in keys]))
            return True

    def fault_extra_key(self, operation, request, table):
        if "Key" in request:
            request["Key"]["extra"] = {"S": "x"}
            return True

    def fault_wrong_key_type(self, operation, request, table):
        keys = self.where(request)
        if keys:
            name = self.dice.choice([k for k in ("pk", "sk") if k in keys])
            keys[name] = {"BOOL": True} if self.dice.random() < 0.5 else {
                "N": "1"} if "N" not in keys[name] else {"S": "x"}
            return True

    def fault_empty_key(self, operation, request, table):
        keys = self.where(request)
        if keys and "S" in keys.get("pk", {}):
            keys["pk"] = {"S": ""}
            return True

    def fault_value(self, operation, request, table):
        bad = self.dice.choice([{}, {"S": "a", "N": "1"}, {"N": "abc"}, {"N": ""}, {"N": "1e200"}, {"N": "1" * 39},
                                {"SS": []}, {"NS": []}, {"SS": ["a", "a"]}, {"NS": ["1", "1.0"]}, {"NULL": False},
                                {"L": [{"N": "x"}]}, {"M": {"p": {}}}])
        if "Item" in request:
            request["Item"]["zz"] = bad
            return True
        if request.get("ExpressionAttributeValues"):
            request["ExpressionAttributeValues"][self.dice.choice(list(request["ExpressionAttributeValues"]))] = bad
            return True

    def expression(self, request):
        found = [n for n in ("ConditionExpression", "UpdateExpression", "FilterExpression", "ProjectionExpression",
                             "KeyConditionExpression") if n in request]
        return self.dice.choice(found) if found else None

    def fault_syntax(self, operation, request, table):
        name = self.expression(request)
        if name:
            text = request[name]
            request[name] = self.dice.choice([
                text + ")", text + " AND", "", text + " !", "( " + text, text.replace("=", "==", 1),
                text.replace(" ", "  ", 1), text.replace("(", "((", 1).replace(")", "))", 1)])
            return True

    def fault_undefined_placeholder(self, operation, request, table):
        for field in ("ExpressionAttributeValues", "ExpressionAttributeNames"):
            if len(request.get(field, {})) > 1:
                request[field].pop(self.dice.choice(list(request[field])))
                return True

    def fault_unused_placeholder(self, operation, request, table):
        if "ExpressionAttributeValues" in request:
            request["ExpressionAttributeValues"][":unused"] = {"S": "x"}
            return True
        if "ExpressionAttributeNames" in request:
            request["ExpressionAttributeNames"]["#unused"] = "x"
            return True

    def fault_placeholder_name(self, operation, request, table):
        if "ExpressionAttributeValues" in request:
            request["ExpressionAttributeValues"]["nocolon"] = {"S": "x"}
            return True

    def fault_reserved(self, operation, request, table):
        for name in ("ConditionExpression", "FilterExpression"):
            if name in request:
                request[name] = f"({request[name]}) OR {self.dice.choice(RESERVED + ['Abort'])} = :v0"
                return True

    def fault_return_values(self, operation, request, table):
        if operation in ("PutItem", "DeleteItem"):
            request["ReturnValues"] = self.dice.choice(["ALL_NEW", "UPDATED_OLD"])
            return True

    def fault_mixed(self, operation, request, table):
        if operation in ("PutItem", "DeleteItem", "UpdateItem") and "ConditionExpression" in request:
            request["Expected"] = {"a": {"Exists": False}}
            return True
        if "ProjectionExpression" in request:
            request["AttributesToGet"] = ["a"]
            return True

    def fault_index(self, operation, request, table):
        if operation in ("Query", "Scan"):
            request["IndexName"] = "no_such_index"
            return True

    def fault_select(self, operation, request, table):
        if operation in ("Query", "Scan") and "IndexName" not in request:
            request["Select"] = self.dice.choice(["ALL_PROJECTED_ATTRIBUTES", "SPECIFIC_ATTRIBUTES"])
            return True

    def fault_filter_on_key(self, operation, request, table):
        if operation == "Query" and "KeyConditionExpression" in request and "FilterExpression" not in request:
            request["FilterExpression"] = "attribute_exists(pk)"
            return True

    def fault_update_key(self, operation, request, table):
        if operation == "UpdateItem" and "UpdateExpression" in request:
            request["UpdateExpression"] = "REMOVE pk"
            for field in ("ExpressionAttributeNames", "ExpressionAttributeValues", "ConditionExpression",
                          "ReturnValuesOnConditionCheckFailure"):
                request.pop(field, None)
            return True

    def fault_overlap(self, operation, request, table):
        if operation == "UpdateItem" and "UpdateExpression" in request:
            request["UpdateExpression"] = self.dice.choice([
                "REMOVE deep, deep.p", "REMOVE arr[0], arr[0]", "REMOVE deep.p, deep[0]"])
            for field in ("ExpressionAttributeNames", "ExpressionAttributeValues", "ConditionExpression",
                          "ReturnValuesOnConditionCheckFailure"):
                request.pop(field, None)
            return True

    def fault_batch_duplicate(self, operation, request, table):
        if operation == "BatchWriteItem":
            for requests in request["RequestItems"].values():
                requests.append(json.loads(json.dumps(requests[0])))
                return True
        if operation == "BatchGetItem":
            for entry in request["RequestItems"].values():
                entry["Keys"].append(dict(entry["Keys"][0]))
                return True


def canonical_key(item):
    """Text that is equal for keys that the service takes as equal."""
    from decimal import Decimal
    parts = []
    for name in ("pk", "sk"):
        if name in item:
            (kind, value), = item[name].items()
            parts.append((kind, str(Decimal(value).normalize() + 0) if kind == "N" else value))
    return str(parts)
